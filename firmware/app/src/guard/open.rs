//! Everybody may do everything.

use embedded_io::Write;
use offshoot::Model;
use offshoot::format::header::HeaderView;
use offshoot::wire::{ErrorCode, Failure, Request, Response, crc32, decode, encode};

use crate::link::{failure, send_frame};

/// Nothing to guard.
pub(crate) struct Guard<'d>(pub(crate) core::marker::PhantomData<&'d ()>);

/// What learned weights in flash are told apart by: the CRC-32 of their model.
pub(crate) type Binding = u32;

/// Answers belong to nothing but their request's number.
#[derive(Clone, Copy)]
pub(crate) struct Bond;

impl Guard<'_> {
    /// Reads a request.
    pub(crate) fn admit<'p>(&mut self, payload: &'p [u8], _: bool) -> (Bond, Result<Request<'p>, Failure>) {
        (Bond, decode(payload).map(|(_, request)| request).map_err(failure))
    }

    /// There are no sessions.
    pub(crate) fn challenge(&mut self) -> Result<[u8; 32], Failure> {
        Err(Failure::new(ErrorCode::NoAuthority, 0))
    }

    /// Opens a model.
    pub(crate) fn open<'m>(&mut self, file: &'m [u8]) -> Result<(Model<'m>, Binding), Failure> {
        Ok((Model::open(file)?, crc32(file)))
    }

    /// Every model is accepted.
    pub(crate) fn accept(&mut self, _: &Binding) -> Result<(), Failure> {
        Ok(())
    }
}

impl Bond {
    /// An answer to no request.
    pub(crate) const NONE: Self = Self;

    /// Sends an answer.
    pub(crate) fn send<S: Write>(
        self,
        serial: &mut S,
        number: u8,
        message: &Response<'_>,
        memory: &mut [u8],
    ) {
        send_frame(serial, encode(number, message, memory), memory);
    }
}

/// The model at the start of the flash, as long as its header says; the whole flash if the header is invalid.
pub(crate) fn in_flash(flash: &[u8]) -> &[u8] {
    let header = HeaderView::new_checked(flash).and_then(|view| view.parse());
    header.ok().and_then(|header| flash.get(..header.file_len as usize)).unwrap_or(flash)
}
