//! Boards emulated by QEMU. With `-icount`, time is a function of the instructions executed, so that the board's timer
//! counts them exactly, regardless of the load on this machine.

use crate::chip::{Chip, Facts};
use crate::client::Client;
use crate::cycles::cores::Timings;
use crate::cycles::plugin::{Counter, Interval};
use crate::cycles::{self, Program};
use crate::device::{Device, DeviceInfo, Profile};
use crate::features::check_runtime;
use crate::transport::{Transport, UnixSocket};
use crate::{Board, RemoteDevice, TargetError, firmware};
use offshoot::AlignedBytes;
use offshoot::wire::TrainStepReport;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use tempfile::TempDir;

/// Runs the emulator (`$2` and further arguments) until standard input closes, which happens however this program
/// ends, even by SIGKILL. Then the script kills the emulator and removes the folder `$1` with its sockets. If the
/// emulator ends first, the script ends with its status.
const WATCH: &str = r#"
folder=$1
shift
exec 3<&0
"$@" </dev/null 3<&- &
emulator=$!
(read -r _ <&3; rm -rf "$folder"; kill -9 "$emulator") >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$emulator"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

/// Longest wait for the emulator to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// An emulated board. It starts when it is first needed, and runs until it is dropped or another model is loaded.
#[derive(Debug)]
pub struct QemuDevice {
    board: &'static Board,
    /// The chip that the board stands in for.
    chip: Option<&'static Chip>,
    firmware: PathBuf,
    code_bytes: u64,
    running: Option<RemoteDevice<Emulator>>,
    /// The loaded model.
    off: Vec<u8>,
    /// Number of its selected network.
    network: usize,
}

impl QemuDevice {
    /// A board with its firmware, which is built if necessary.
    ///
    /// # Errors
    /// The firmware is missing or cannot be built.
    pub fn new(board: &'static Board) -> Result<Self, TargetError> {
        let firmware = firmware::find(board)?;
        let code_bytes = firmware::code_bytes(&firmware)?;
        Ok(Self { board, chip: None, firmware, code_bytes, running: None, off: vec![], network: 0 })
    }

    /// The board with the core of `chip`. Models must fit the chip's memory, and cycles are modelled with its flash.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_chip(chip: &'static Chip) -> Result<Self, TargetError> {
        Ok(Self { chip: Some(chip), ..Self::new(chip.board())? })
    }

    /// The timings of the core, with the flash of the chip.
    fn timings(&self) -> Result<Timings, TargetError> {
        let facts = self.chip.and_then(Chip::facts);
        let name = facts.map_or(self.board.core.name, |f| f.core);
        let timings = Timings::of(name)
            .ok_or_else(|| TargetError::NoCycles(format!("there are no timings for {name}")))?;
        let waits = |facts: &Facts| facts.wait_states.unwrap_or(0);
        Ok(match self.chip {
            Some(_) => timings.with_wait_states(facts.map_or(0, waits)),
            None => *timings,
        })
    }

    /// Checks that the model fits the memory of the chip.
    fn check_chip(&self, off: &[u8]) -> Result<(), TargetError> {
        let Some(chip) = self.chip else { return Ok(()) };
        let aligned = AlignedBytes::copy_of(off);
        let arena = offshoot::Model::open(aligned.bytes()).map_or(0, |model| u64::from(model.arena_bytes()));
        let needs = [
            ("the file (flash)", off.len() as u64, chip.flash_bytes),
            ("the arena (RAM)", arena, chip.ram_bytes),
        ];
        match needs.into_iter().find(|(_, needed, there)| needed > there) {
            Some((what, needed, there)) => {
                Err(TargetError::DoesNotFit { board: chip.name.into(), what, needed, there })
            }
            None => Ok(()),
        }
    }

    /// Starts the board, with `off` in its flash if given, and `more` arguments for the emulator.
    fn start(&self, off: Option<&[u8]>, more: &[String]) -> Result<RemoteDevice<Emulator>, TargetError> {
        let flash = off.map(|off| (self.board.firmware.model_flash.0, off));
        let emulator = Emulator::start_with(self.board, &self.firmware, flash, more)?;
        let mut device = RemoteDevice::new(Client::new(emulator));
        device.code_bytes = Some(self.code_bytes);
        Ok(device)
    }

    fn running(&mut self) -> Result<&mut RemoteDevice<Emulator>, TargetError> {
        let device = match self.running.take() {
            Some(device) => device,
            None => self.start(None, &[])?,
        };
        Ok(self.running.insert(device))
    }

    /// Loads a model into RAM over the serial line, as on a real board. [`Device::load`] is faster: it starts the
    /// emulator with the model in flash.
    ///
    /// # Errors
    /// As [`Device::load`].
    pub fn load_over_line(&mut self, off: &[u8]) -> Result<(), TargetError> {
        self.running()?.load(off)
    }
}

/// Picks intervals between readings of the timer, which `offshoot_app` takes in a plain run and then in an observed
/// one: the interval of the whole run, and those of the operators.
fn intervals_of_profile(all: &[Interval], operators: usize) -> Option<(Interval, Vec<Interval>)> {
    // Each interval ends with a reading. Both runs begin with two readings that measure the cost of reading.
    let total = all.get(3)?.clone();
    let of_operators: Vec<Interval> = all.get(6..)?.iter().skip(1).step_by(2).cloned().collect();
    (of_operators.len() == operators).then_some((total, of_operators))
}

impl QemuDevice {
    /// Why the board refused to open a model: the runtime features that its firmware lacks, or what the board said.
    fn explained(&self, off: &[u8], refused: TargetError) -> TargetError {
        let aligned = AlignedBytes::copy_of(off);
        match (&refused, offshoot::Model::open(aligned.bytes())) {
            (TargetError::DoesNotFit { .. }, _) | (_, Err(_)) => refused,
            (_, Ok(model)) => check_runtime(self.board, off, &model).err().unwrap_or(refused),
        }
    }
}

impl Device for QemuDevice {
    fn info(&mut self) -> Result<DeviceInfo, TargetError> {
        self.running()?.info()
    }

    fn load(&mut self, off: &[u8]) -> Result<(), TargetError> {
        self.running = None;
        let off = crate::session::network(off);
        self.check_chip(off)?;
        let slot = self.board.firmware.model_flash;
        if off.len() as u64 > u64::from(slot.1) {
            return Err(TargetError::DoesNotFit {
                board: self.board.name.into(),
                what: "the file (flash beside the firmware)",
                needed: off.len() as u64,
                there: slot.1.into(),
            });
        }
        let mut device = self.start(Some(off), &[])?;
        let facts = device.facts()?;
        if (facts.model_flash_address, facts.model_flash) != slot {
            return Err(TargetError::Emulator(format!(
                "the firmware {} has its model slot at {:#x}, not where expected: build it again with \
                 firmware/build.sh",
                self.firmware.display(),
                facts.model_flash_address
            )));
        }
        device.use_flash(off).map_err(|refused| self.explained(off, refused))?;
        self.running = Some(device);
        self.off = off.to_vec();
        self.network = 0;
        Ok(())
    }

    fn select(&mut self, index: usize) -> Result<Option<u64>, TargetError> {
        let count = self.running.as_mut().ok_or(TargetError::NoModel)?.select(index)?;
        self.network = index;
        Ok(count)
    }

    fn run(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.run(inputs)
    }

    fn profile(&mut self, inputs: &[&[u8]]) -> Result<Profile, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.profile(inputs)
    }

    fn model_cycles(&mut self, inputs: &[&[u8]], profile: &mut Profile) -> Result<(), TargetError> {
        let timings = &self.timings()?;
        let program = Program::read(&self.firmware)?;
        let counter = Counter::new()?;
        let mut device =
            self.start(Some(&self.off), &counter.arguments(&program.marks, self.board.firmware.code))?;
        device.use_flash(&self.off)?;
        if self.network > 0 {
            device.select(self.network)?;
        }
        device.profile(inputs)?;
        drop(device);
        // Selecting another network reads the timer four times.
        let all = counter.intervals()?;
        let own = all.get(if self.network > 0 { 4 } else { 0 }..).unwrap_or_default();
        let (total, operators) = intervals_of_profile(own, profile.operators.len()).ok_or_else(|| {
            TargetError::NoCycles(
                "the firmware does not read its timer as expected: build it again with firmware/build.sh"
                    .into(),
            )
        })?;
        let counted = total.instructions();
        let expected = profile.instructions.unwrap_or_default();
        if counted.abs_diff(expected) > 16 + expected / 1000 {
            let message =
                format!("the emulator's plugin counts {counted} instructions, but the timer {expected}");
            return Err(TargetError::NoCycles(message));
        }
        let all = cycles::cycles(&program, timings, &total);
        profile.cycles = Some(all.total());
        profile.flash_waits = Some(all.waits);
        let (fast, slow) = timings.bounds();
        let bound = |t: &Timings| cycles::cycles(&program, t, &total);
        profile.cycles_range = Some((bound(&fast).core, bound(&slow).total()));
        for (operator, interval) in profile.operators.iter_mut().zip(&operators) {
            operator.cycles = Some(cycles::cycles(&program, timings, interval).total());
        }
        Ok(())
    }

    fn digests(&mut self, inputs: &[&[u8]]) -> Result<Vec<u32>, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.digests(inputs)
    }

    fn begin_learning(&mut self) -> Result<(), TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.begin_learning()
    }

    fn learn(&mut self, inputs: &[&[u8]], label: u16) -> Result<TrainStepReport, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.learn(inputs, label)
    }

    fn fit(&mut self, inputs: &[&[u8]], targets: &[f32]) -> Result<TrainStepReport, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.fit(inputs, targets)
    }

    fn learned(&mut self) -> Result<Vec<u8>, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.learned()
    }

    fn scores(&mut self) -> Result<Vec<f32>, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.scores()
    }

    fn set_active_blocks(&mut self, blocks: u8) -> Result<(), TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.set_active_blocks(blocks)
    }

    fn write_learned(&mut self, learned: &[u8]) -> Result<(), TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.write_learned(learned)
    }

    fn set_course(&mut self, steps: u32) -> Result<(), TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.set_course(steps)
    }

    fn save(&mut self) -> Result<u32, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.save()
    }

    fn restore(&mut self) -> Result<u32, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.restore()
    }

    fn forget(&mut self, flash: bool) -> Result<(), TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.forget(flash)
    }

    fn reopen(&mut self) -> Result<u32, TargetError> {
        self.running.as_mut().ok_or(TargetError::NoModel)?.reopen()
    }

    fn run_count(&self) -> Option<u64> {
        self.running.as_ref().and_then(Device::run_count)
    }

    fn arena_used(&self) -> u32 {
        self.running.as_ref().map_or(0, Device::arena_used)
    }
}

/// A running emulator and the line to its first UART.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    line: UnixSocket,
    program: String,
    /// Folder of the sockets and the model; it must exist while the emulator runs.
    folder: TempDir,
    #[cfg(feature = "logs")]
    _logs: Option<crate::logs::Logs>,
}

impl Emulator {
    /// Starts `board` with `firmware`, and with the bytes `flash.1` at address `flash.0` (which may also be RAM).
    ///
    /// # Errors
    /// [`TargetError::NoEmulator`] if QEMU is not installed; [`TargetError::Emulator`] with its output if it ends.
    pub fn start(board: &Board, firmware: &Path, flash: Option<(u32, &[u8])>) -> Result<Self, TargetError> {
        Self::start_with(board, firmware, flash, &[])
    }

    /// The same with `more` arguments for the emulator.
    fn start_with(
        board: &Board,
        firmware: &Path,
        flash: Option<(u32, &[u8])>,
        more: &[String],
    ) -> Result<Self, TargetError> {
        let emulator = board.emulator;
        let program = env::var(emulator.variable).unwrap_or_else(|_| emulator.program.into());
        // The system's folder and not TMPDIR, which may be too long for a socket's path.
        let folder = tempfile::Builder::new()
            .prefix("offshoot")
            .tempdir()
            .map_err(TargetError::io("temporary folder"))?;
        let socket = folder.path().join("uart0");
        let listener = UnixListener::bind(&socket).map_err(TargetError::io(socket.display().to_string()))?;
        if !is_program(&program) {
            return Err(TargetError::NoEmulator { program, package: emulator.package });
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCH, "offshoot"]).arg(folder.path()).arg(&program);
        command.args(["-M", board.machine, "-bios", "none", "-display", "none", "-nodefaults"]);
        command
            .arg("-monitor")
            .arg(format!("unix:{},server,nowait", folder.path().join("monitor").display()));
        command.args(["-icount", &format!("shift={}", board.icount_shift)]);
        command.arg("-chardev").arg(format!("socket,id=uart0,path={}", socket.display()));
        command.args(["-serial", "chardev:uart0"]);
        #[cfg(feature = "logs")]
        let logs = match board.firmware.logs {
            true => crate::logs::Logs::attach(firmware, folder.path(), &mut command)?,
            false => None,
        };
        if let Some((address, bytes)) = flash {
            let path = folder.path().join("model.off");
            fs::write(&path, bytes).map_err(TargetError::io(path.display().to_string()))?;
            let loader = format!("loader,file={},addr={address:#x},force-raw=on", path.display());
            command.arg("-device").arg(loader);
        }
        command.arg("-kernel").arg(firmware).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| TargetError::Emulator(format!("{program}: {e}")))?;
        match accept(&listener, &mut child, &program) {
            Ok(line) => Ok(Self {
                child,
                line,
                program,
                folder,
                #[cfg(feature = "logs")]
                _logs: logs,
            }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }
}

impl Emulator {
    /// Reads `len` bytes of the board's memory at `address`.
    ///
    /// # Errors
    /// [`TargetError::Emulator`] if the emulator does not deliver them.
    pub fn memory(&mut self, address: u32, len: usize) -> Result<Vec<u8>, TargetError> {
        let file = self.folder.path().join("memory");
        let monitor = self.folder.path().join("monitor");
        let mut monitor =
            UnixStream::connect(&monitor).map_err(TargetError::io("monitor of the emulator"))?;
        writeln!(monitor, "pmemsave {address:#x} {len} \"{}\"", file.display())
            .map_err(TargetError::io("monitor of the emulator"))?;
        let start = Instant::now();
        loop {
            match fs::read(&file) {
                Ok(bytes) if bytes.len() == len => return Ok(bytes),
                _ if start.elapsed() > START_TIMEOUT => {
                    return Err(TargetError::Emulator(format!(
                        "{} did not deliver the board's memory",
                        self.program
                    )));
                }
                _ => thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Transport for Emulator {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line.send(bytes)
    }

    fn receive(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        self.line.receive(buffer, timeout)
    }

    fn diagnosis(&mut self) -> String {
        match self.child.try_wait() {
            Ok(Some(status)) => format!("{} ended with {status}. {}", self.program, said(&mut self.child)),
            _ => "the emulator runs, but the firmware is silent. It may have panicked: firmware/build.sh says how \
             to see its log"
                .into(),
        }
    }
}

/// Waits for the emulator to connect, which it does before the board starts.
fn accept(listener: &UnixListener, child: &mut Child, program: &str) -> Result<UnixSocket, TargetError> {
    let io = || TargetError::io("socket of the emulator");
    listener.set_nonblocking(true).map_err(io())?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => return UnixSocket::new(stream).map_err(io()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(io()(e)),
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(TargetError::Emulator(format!("{program} ended with {status}. {}", said(child))));
        }
        if start.elapsed() > START_TIMEOUT {
            return Err(TargetError::Emulator(format!(
                "{program} did not start within {} s",
                START_TIMEOUT.as_secs()
            )));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The start of what a program that has ended wrote to stderr.
fn said(child: &mut Child) -> String {
    let mut text = vec![];
    if let Some(stderr) = child.stderr.as_mut() {
        // A failure to read it is not worth another error.
        let _ = stderr.take(4096).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Ends the emulator, see [`WATCH`].
fn end(child: &mut Child) {
    drop(child.stdin.take());
    // It may have ended already.
    let _ = child.wait();
}

/// Whether a program exists: as a path, or as a name in a folder of `PATH`.
fn is_program(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    env::var_os("PATH").is_some_and(|all| env::split_paths(&all).any(|folder| folder.join(name).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for the emulator: prints its process number, then sleeps.
    fn watched(folder: &Path) -> (Child, u32) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCH, "offshoot"]).arg(folder);
        command.args(["/bin/sh", "-c", "echo $$; exec sleep 600"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
        (child, line.trim().parse().unwrap())
    }

    fn runs(process: u32) -> bool {
        // A process that has ended but was not waited for has no command line.
        fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty())
    }

    fn within_seconds(what: impl Fn() -> bool) -> bool {
        (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            what()
        })
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_emulator_ends_when_nobody_holds_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sockets");
        fs::create_dir(&path).unwrap();
        let (mut child, process) = watched(&path);
        // While it turns into `sleep`, a process has no command line for a moment.
        assert!(within_seconds(|| runs(process)));
        // As if this process ended.
        drop(child.stdin.take());
        assert!(within_seconds(|| !runs(process) && !path.exists()));
        child.wait().unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_emulator_that_ends_by_itself_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, process) = watched(folder.path());
        let killed = Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
        assert!(killed.success());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(137));
        // Nothing holds the pipe any more, so reading it ends.
        said(&mut child);
    }

    #[test]
    fn programs_are_looked_for() {
        assert!(is_program("sh") && is_program("/bin/sh"));
        assert!(!is_program("no-such-emulator") && !is_program("/bin/no-such-emulator"));
    }
}
