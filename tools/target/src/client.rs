//! The host side of [`offshoot::wire`], over any [`Transport`].

pub use crate::client_error::ClientError;
use crate::session::{Host, HostKey, Sending};
use crate::transport::Transport;
use offshoot::wire::authority::{SIGNED_CHUNK_MAX, decode_bound, encode_signed};
use offshoot::wire::{
    CHUNK_MAX, CountUnit, ErrorCode, Event, FRAME_MAX, Failure, FrameReader, Mode, ModelInfo,
    OperatorMeasurement, Request, Response, RunReport, TrainStepReport, UNNUMBERED, encode,
};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// Longest wait for an answer to a request other than a run.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait between two messages of a run.
pub const RUN_TIMEOUT: Duration = Duration::from_secs(300);

/// How often a request is sent if it is damaged on the way.
const TRIES: u32 = 3;

/// Properties that a device reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Board.
    pub board: String,
    /// Version of the `.off` format that it reads.
    pub format: u16,
    /// Bytes of RAM for models.
    pub model_ram: u32,
    /// Bytes of flash for a model.
    pub model_flash: u32,
    /// Address of that flash.
    pub model_flash_address: u32,
    /// Bytes for the arena.
    pub arena: u32,
    /// Unit of its counts.
    pub unit: CountUnit,
}

/// Sends requests to a device.
#[derive(Debug)]
pub struct Client<T> {
    line: T,
    reader: FrameReader,
    received: VecDeque<u8>,
    /// Number of the last request: 1 to 255, then 1 again.
    number: u8,
    answer_timeout: Duration,
    run_timeout: Duration,
    host: Option<Host>,
    /// The last request was signed.
    signed: bool,
    /// A learned state is being sent.
    learned: bool,
}

impl<T: Transport> Client<T> {
    /// A client on a line.
    pub fn new(line: T) -> Self {
        Self {
            line,
            reader: FrameReader::new(),
            received: VecDeque::new(),
            number: UNNUMBERED,
            answer_timeout: ANSWER_TIMEOUT,
            run_timeout: RUN_TIMEOUT,
            host: None,
            signed: false,
            learned: false,
        }
    }

    /// The same client with other time limits, for an answer and between messages of a run.
    #[must_use]
    pub fn with_timeouts(self, answer: Duration, run: Duration) -> Self {
        Self { answer_timeout: answer, run_timeout: run, ..self }
    }

    /// The same client with a host's key, which signs the requests that change something on a device that asks for it.
    #[must_use]
    pub fn with_host_key(self, key: Box<dyn HostKey>) -> Self {
        Self { host: Some(Host::new(key)), ..self }
    }

    /// Opens a session if there is a host's key and the device has host keys; whether it has.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn authorise(&mut self) -> Result<bool, ClientError> {
        if self.host.is_none() {
            return Ok(false);
        }
        const NAME: &str = "challenge";
        let asked = self.ask(NAME, &Request::Challenge, |answer| match answer {
            Response::Challenge { nonce } => Some(nonce),
            _ => None,
        });
        let Some(host) = &mut self.host else { return Ok(false) };
        match asked {
            Ok(nonce) => {
                host.begin(nonce);
                Ok(true)
            }
            Err(ClientError::Refused { failure: Failure { code: ErrorCode::NoAuthority, .. }, .. }) => {
                if host.do_without() { Ok(false) } else { Err(ClientError::NotBound { request: NAME }) }
            }
            Err(error) => Err(error),
        }
    }

    /// The line.
    pub fn line(&mut self) -> &mut T {
        &mut self.line
    }

    /// Asks the device for its properties.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn hello(&mut self) -> Result<Facts, ClientError> {
        self.ask("hello", &Request::Hello, |answer| match answer {
            Response::Info(i) => Some(Facts {
                board: i.board.to_owned(),
                format: i.format,
                model_ram: i.model_ram,
                model_flash: i.model_flash,
                model_flash_address: i.model_flash_address,
                arena: i.arena,
                unit: i.unit,
            }),
            _ => None,
        })
    }

    /// Sends a model into the device's RAM and opens it there.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn load(&mut self, off: &[u8]) -> Result<ModelInfo, ClientError> {
        let len = u32::try_from(off.len()).unwrap_or(u32::MAX);
        self.ask("load begin", &Request::LoadBegin { len }, ok)?;
        for (offset, data) in chunks(off, CHUNK_MAX) {
            self.ask("load chunk", &Request::LoadChunk { offset, data }, ok)?;
        }
        self.ask("load end", &Request::LoadEnd, model).and_then(|model| same(model, off))
    }

    /// Opens the model in the device's flash, which must be `off`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn use_flash(&mut self, off: &[u8]) -> Result<ModelInfo, ClientError> {
        self.ask("use flash", &Request::UseFlash, model).and_then(|model| same(model, off))
    }

    /// Writes a whole input.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn write_input(&mut self, index: u8, tensor: &[u8]) -> Result<(), ClientError> {
        for (offset, data) in chunks(tensor, CHUNK_MAX) {
            self.ask("write input", &Request::WriteInput { index, offset, data }, ok)?;
        }
        Ok(())
    }

    /// Reads `len` bytes of an output.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn read_output(&mut self, index: u8, len: usize) -> Result<Vec<u8>, ClientError> {
        let mut tensor = Vec::with_capacity(len);
        while tensor.len() < len {
            let part = (len - tensor.len()).min(CHUNK_MAX) as u16;
            let request = Request::ReadOutput { index, offset: tensor.len() as u32, len: part };
            tensor.extend(self.ask("read output", &request, |answer| match answer {
                Response::Data(data) if data.len() == usize::from(part) => Some(data.to_vec()),
                _ => None,
            })?);
        }
        Ok(tensor)
    }

    /// Runs the model. `operator` is called with each operator's report if `mode` requests them.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn run(
        &mut self,
        mode: Mode,
        mut operator: impl FnMut(OperatorMeasurement),
    ) -> Result<RunReport, ClientError> {
        const NAME: &str = "run";
        self.send(NAME, &Request::Run { mode })?;
        loop {
            let done = self.answer(NAME, self.run_timeout, |answer| match answer {
                Response::Operator(report) => {
                    operator(report);
                    Some(None)
                }
                Response::Done(report) => Some(Some(report)),
                _ => None,
            })?;
            if let Some(report) = done {
                return Ok(report);
            }
        }
    }

    /// Starts learning from the weights of the file.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn begin_learning(&mut self) -> Result<(), ClientError> {
        self.ask("learn begin", &Request::LearnBegin, ok)
    }

    /// Takes one train step on the inputs written before.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn learn(&mut self, label: u16) -> Result<TrainStepReport, ClientError> {
        // Sent only once, since a train step must not be repeated.
        const NAME: &str = "learn";
        self.send(NAME, &Request::Learn { label })?;
        self.answer(NAME, self.run_timeout, |answer| match answer {
            Response::TrainStep(report) => Some(report),
            _ => None,
        })
    }

    /// Takes one train step towards real targets.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn fit(&mut self, targets: &[f32]) -> Result<TrainStepReport, ClientError> {
        // As for `learn`.
        const NAME: &str = "fit";
        let bytes: Vec<u8> = targets.iter().flat_map(|t| t.to_le_bytes()).collect();
        self.send(NAME, &Request::Fit { targets: &bytes })?;
        self.answer(NAME, self.run_timeout, |answer| match answer {
            Response::TrainStep(report) => Some(report),
            _ => None,
        })
    }

    /// Selects another network of the file; returns the cost of switching.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn select(&mut self, network: u8) -> Result<u32, ClientError> {
        self.ask("select", &Request::Select { network }, |answer| match answer {
            Response::Done(report) => Some(report.count),
            _ => None,
        })
    }

    /// Reads `len` bytes of what was learned.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn read_learned(&mut self, len: usize) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let part = (len - bytes.len()).min(CHUNK_MAX) as u16;
            let request = Request::ReadLearned { offset: bytes.len() as u32, len: part };
            bytes.extend(self.ask("read learned", &request, |answer| match answer {
                Response::Data(data) if data.len() == usize::from(part) => Some(data.to_vec()),
                _ => None,
            })?);
        }
        Ok(bytes)
    }

    /// Reads the scores of `classes`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn read_scores(&mut self, classes: usize) -> Result<Vec<f32>, ClientError> {
        let mut bytes = Vec::with_capacity(4 * classes);
        while bytes.len() < 4 * classes {
            let part = (4 * classes - bytes.len()).min(CHUNK_MAX) as u16;
            let request = Request::ReadScores { offset: bytes.len() as u32, len: part };
            bytes.extend(self.ask("read scores", &request, |answer| match answer {
                Response::Data(data) if data.len() == usize::from(part) => Some(data.to_vec()),
                _ => None,
            })?);
        }
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// Sets the number of active blocks of a boosted head.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn set_active_blocks(&mut self, blocks: u8) -> Result<(), ClientError> {
        self.ask("active blocks", &Request::ActiveBlocks { blocks }, ok)
    }

    /// Stretches or shortens the course of learning to `steps` steps; 0 goes back to the plan's.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn set_course(&mut self, steps: u32) -> Result<(), ClientError> {
        self.ask("course", &Request::Course { steps }, ok)
    }

    /// Replaces what the device has learned.
    ///
    /// # Errors
    /// [`ClientError`]; the device is then as before its first step.
    pub fn write_learned(&mut self, learned: &[u8]) -> Result<(), ClientError> {
        const NAME: &str = "write learned";
        self.ask(NAME, &Request::WriteLearned, ok)?;
        self.learned = true;
        let size = if self.host.as_ref().is_some_and(Host::is_open) { SIGNED_CHUNK_MAX } else { CHUNK_MAX };
        let sent = chunks(learned, size)
            .try_for_each(|(offset, data)| self.ask(NAME, &Request::LoadChunk { offset, data }, ok));
        self.learned = false;
        sent?;
        self.ask(NAME, &Request::LoadEnd, ok)
    }

    /// Saves what was learned; returns the number of the save.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn save(&mut self) -> Result<u32, ClientError> {
        self.ask("save", &Request::Save, stored)
    }

    /// Restores what was saved; returns the number of the save.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn restore(&mut self) -> Result<u32, ClientError> {
        self.ask("restore", &Request::Restore, stored)
    }

    /// Goes back to the weights of the file; with `flash`, also discards what is saved.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn forget(&mut self, flash: bool) -> Result<(), ClientError> {
        self.ask("forget", &Request::Forget { flash }, ok)
    }

    /// Sends a request and returns its answer. If a message was damaged, the request is sent again, which is safe for
    /// all requests except runs.
    fn ask<R>(
        &mut self,
        name: &'static str,
        request: &Request<'_>,
        mut read: impl FnMut(Response<'_>) -> Option<R>,
    ) -> Result<R, ClientError> {
        for _ in 1..TRIES {
            self.send(name, request)?;
            match self.answer(name, self.answer_timeout, &mut read) {
                Err(ClientError::Refused { failure: Failure { code: ErrorCode::Frame, .. }, .. }) => {}
                answer => return answer,
            }
        }
        self.send(name, request)?;
        self.answer(name, self.answer_timeout, read)
    }

    fn send(&mut self, request: &'static str, message: &Request<'_>) -> Result<(), ClientError> {
        let sending = |host: &Option<Host>, learned| {
            host.as_ref().map_or(Sending::Plain, |host| host.sending(message, learned))
        };
        if sending(&self.host, self.learned) == Sending::Challenge {
            self.authorise()?;
        }
        self.signed = sending(&self.host, self.learned) == Sending::Signed;
        self.number = self.number.checked_add(1).unwrap_or(1);
        let mut frame = [0; FRAME_MAX];
        let encoded = match self.host.as_ref().filter(|_| self.signed) {
            Some(host) => encode_signed(self.number, message, &mut frame, |body| host.authority(body)),
            None => encode(self.number, message, &mut frame),
        };
        let len = encoded.map_err(|error| ClientError::Frame { request, error })?;
        self.line.send(&frame[..len]).map_err(|e| self.broken(request, self.answer_timeout, e))
    }

    fn answer<R>(
        &mut self,
        request: &'static str,
        timeout: Duration,
        mut read: impl FnMut(Response<'_>) -> Option<R>,
    ) -> Result<R, ClientError> {
        // The limit is for the whole message, so that trickling bytes do not extend it.
        let end = Instant::now() + timeout;
        loop {
            let Some(byte) = self.received.pop_front() else {
                self.receive(request, timeout, end)?;
                continue;
            };
            match self.reader.push(byte) {
                Event::Pending => {}
                Event::Bad(error) => return Err(ClientError::Frame { request, error }),
                Event::Frame => match decode_bound(self.reader.payload()) {
                    Err(error) => return Err(ClientError::Frame { request, error }),
                    // Late: its request was given up.
                    Ok(found) if found.number != self.number && found.number != UNNUMBERED => {}
                    // A refusal needs no bond: nothing was done, as far as anybody can say.
                    Ok(found) if matches!(found.message, Response::Error(_)) => {
                        let Response::Error(failure) = found.message else { continue };
                        let host = self.host.as_mut().filter(|_| self.signed);
                        match host {
                            Some(host) if host.holds(&found) => host.advance(),
                            // The device has not taken it: it comes again as it is.
                            Some(_) if failure.code == ErrorCode::Frame => {}
                            Some(host) => host.end(),
                            None => {}
                        }
                        return Err(ClientError::Refused { request, failure });
                    }
                    Ok(found) => {
                        if let Some(host) = self.host.as_mut().filter(|_| self.signed) {
                            if !host.holds(&found) {
                                host.end();
                                return Err(ClientError::NotBound { request });
                            }
                            host.advance();
                        }
                        let answer = found.message;
                        return read(answer).ok_or_else(|| ClientError::Unexpected {
                            request,
                            answer: format!("{answer:?}"),
                        });
                    }
                },
            }
        }
    }

    fn receive(&mut self, request: &'static str, timeout: Duration, end: Instant) -> Result<(), ClientError> {
        let mut buffer = [0; FRAME_MAX];
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.broken(request, timeout, io::ErrorKind::TimedOut.into()));
        }
        match self.line.receive(&mut buffer, left) {
            Ok(0) => Err(self.broken(request, timeout, io::ErrorKind::UnexpectedEof.into())),
            Ok(len) => {
                self.received.extend(&buffer[..len]);
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(self.broken(request, timeout, e)),
        }
    }

    fn broken(&mut self, request: &'static str, timeout: Duration, error: io::Error) -> ClientError {
        if let Some(host) = &mut self.host {
            host.end();
        }
        let diagnosis = self.line.diagnosis();
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                ClientError::Timeout { request, seconds: timeout.as_secs_f32(), diagnosis }
            }
            io::ErrorKind::UnexpectedEof => {
                ClientError::Line { request, reason: "it was closed".into(), diagnosis }
            }
            _ => ClientError::Line { request, reason: error.to_string(), diagnosis },
        }
    }
}

fn ok(answer: Response<'_>) -> Option<()> {
    (answer == Response::Ok).then_some(())
}

fn stored(answer: Response<'_>) -> Option<u32> {
    match answer {
        Response::Stored(stored) => Some(stored.generation),
        _ => None,
    }
}

fn model(answer: Response<'_>) -> Option<ModelInfo> {
    match answer {
        Response::Model(model) => Some(model),
        _ => None,
    }
}

fn same(model: ModelInfo, off: &[u8]) -> Result<ModelInfo, ClientError> {
    let sent = crc32fast::hash(off);
    if model.crc == sent { Ok(model) } else { Err(ClientError::OtherModel { device: model.crc, sent }) }
}

/// Chunks of a tensor or file with their offsets. The device refuses more than 4 GiB by the length.
fn chunks(bytes: &[u8], size: usize) -> impl Iterator<Item = (u32, &[u8])> {
    bytes.chunks(size).enumerate().map(move |(i, data)| ((i * size) as u32, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::wire::decode;

    /// A line that delivers a byte every few milliseconds and never ends a frame.
    struct Trickle;

    impl Transport for Trickle {
        fn send(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn receive(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(5));
            buffer[0] = 1;
            Ok(1)
        }
    }

    /// A device that answers each request with what it sent before: first the answer to a request that was given up.
    struct Late(VecDeque<u8>);

    impl Transport for Late {
        fn send(&mut self, request: &[u8]) -> io::Result<()> {
            let mut reader = FrameReader::new();
            let frame = request.iter().any(|b| reader.push(*b) == Event::Frame);
            assert!(frame);
            let (number, _): (u8, Request<'_>) = decode(reader.payload()).unwrap();
            for (number, message) in [(number - 1, Response::Data(&[9])), (number, Response::Ok)] {
                let mut buffer = [0; FRAME_MAX];
                let len = encode(number, &message, &mut buffer).unwrap();
                self.0.extend(&buffer[..len]);
            }
            Ok(())
        }

        fn receive(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<usize> {
            buffer[0] = self.0.pop_front().unwrap();
            Ok(1)
        }
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_answer_to_another_request() {
        let mut client = Client::new(Late(VecDeque::new()));
        client.number = 7;
        client.begin_learning().unwrap();
        client.forget(false).unwrap();
        // After 255 comes 1; 0 is for frames that could not be read.
        client.number = 255;
        assert!(client.begin_learning().is_err(), "an answer without a number counts");
        assert_eq!(client.number, 1);
    }

    #[test]
    fn bytes_that_trickle_in_do_not_prolong_the_time_of_an_answer() {
        let limit = Duration::from_millis(60);
        let mut client = Client::new(Trickle).with_timeouts(limit, limit);
        let start = Instant::now();
        let error = client.hello().unwrap_err();
        assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
        assert!(start.elapsed() < 20 * limit);
    }
}
