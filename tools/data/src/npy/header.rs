//! The header of a `.npy` file: magic, version, and a Python dictionary with element type, order and shape.

use crate::error::{Error, ErrorKind, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest dictionary accepted. NumPy writes 118 bytes; only structured types need more than a few hundred.
const MAX_DICTIONARY: usize = 64 * 1024;
/// Longest header accepted: magic, version, length, dictionary.
pub(super) const LONGEST: usize = 12 + MAX_DICTIONARY;
/// NumPy's own limit on axes.
const MAX_AXES: usize = 32;

/// Element type as named by the header, before conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
}

impl Element {
    pub(super) fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "b1" => Self::Bool,
            "i1" => Self::I8,
            "u1" => Self::U8,
            "i2" => Self::I16,
            "u2" => Self::U16,
            "i4" => Self::I32,
            "u4" => Self::U32,
            "i8" => Self::I64,
            "u8" => Self::U64,
            "f2" => Self::F16,
            "f4" => Self::F32,
            "f8" => Self::F64,
            _ => return None,
        })
    }
}

/// The contents of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) element: Element,
    pub(super) big_endian: bool,
    pub(super) fortran: bool,
    pub(super) shape: Vec<usize>,
    /// Bytes from the start of the file to the elements.
    pub(super) len: usize,
}

impl Header {
    /// Reads the header of a file.
    pub(super) fn parse(file: &[u8]) -> Result<Self> {
        if file.len() < 10 && MAGIC.starts_with(&file[..file.len().min(6)]) {
            let message = match file.len() {
                0 => "not a .npy file: it is empty; write it with numpy.save".into(),
                n => format!(
                    "the file ends after {n} bytes, within its header: it is truncated, write it again"
                ),
            };
            return Err(Error::format(message));
        }
        if file.len() < 10 || &file[..6] != MAGIC {
            let found =
                if file.starts_with(b"PK") { " (it looks like an .npz archive or a zip file)" } else { "" };
            return Err(Error::format(format!(
                "not a .npy file{found}: it must begin with the bytes 93 4e 55 4d 50 59; write it with numpy.save"
            )));
        }
        let (version, wide) = match file[6] {
            1 => (1, false),
            2 => (2, true),
            3 => (3, true),
            v => {
                return Err(Error::format(format!(
                    "version {v} of the .npy format is not known; known are 1, 2 and 3"
                )));
            }
        };
        let start = if wide { 12 } else { 10 };
        let truncated = || Error::format("the file ends within its header: it is truncated, write it again");
        let len = if wide {
            let bytes = file.get(8..12).ok_or_else(truncated)?;
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
        } else {
            usize::from(u16::from_le_bytes([file[8], file[9]]))
        };
        if len > MAX_DICTIONARY {
            return Err(Error::format(format!(
                "its version {version} header claims {len} bytes; at most {MAX_DICTIONARY} are accepted"
            )));
        }
        let text = file.get(start..start + len).ok_or_else(truncated)?;
        let text = std::str::from_utf8(text).map_err(|_| Error::format("its header is not text"))?;
        let mut header = Dictionary { rest: text }.parse()?;
        header.len = start + len;
        Ok(header)
    }

    /// Version 1 header of a little-endian array in C order, padded so that the elements begin at a multiple of 64.
    pub(super) fn emit(code: &str, shape: &[usize]) -> Vec<u8> {
        let mut axes = shape.iter().map(|n| format!("{n}, ")).collect::<String>();
        if shape.len() > 1 {
            axes.truncate(axes.len() - 2);
        } else if shape.len() == 1 {
            axes.truncate(axes.len() - 1);
        }
        let mut text = format!("{{'descr': '{code}', 'fortran_order': False, 'shape': ({axes}), }}");
        let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
        text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
        text.push('\n');
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        // 32 axes of 20 digits stay far below 65,536.
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }
}

/// Reader of the one dictionary form that `numpy.save` writes, with keys in any order.
struct Dictionary<'a> {
    rest: &'a str,
}

impl<'a> Dictionary<'a> {
    fn parse(mut self) -> Result<Header> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.take("}") {
            let key = self.string()?;
            self.expect(":")?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.shape()?),
                other => {
                    return Err(Error::format(format!(
                        "its header has the unknown key `{}`",
                        shorten(other)
                    )));
                }
            }
            if !self.take(",") && !self.rest.trim_start().starts_with('}') {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
        let missing = |key: &str| Error::format(format!("its header has no `{key}`"));
        let (element, big_endian) = descr.ok_or_else(|| missing("descr"))?;
        Ok(Header {
            element,
            big_endian,
            fortran: fortran.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
            len: 0,
        })
    }

    fn take(&mut self, token: &str) -> bool {
        let trimmed = self.rest.trim_start();
        match trimmed.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected(&format!("`{token}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let found = self.rest.trim_start();
        let found = if found.is_empty() { "its end".into() } else { format!("`{}`", shorten(found)) };
        Error::format(format!("its header cannot be read: {wanted} expected, {found} found"))
    }

    fn string(&mut self) -> Result<&'a str> {
        let trimmed = self.rest.trim_start();
        let quote = match trimmed.chars().next() {
            Some(c @ ('\'' | '"')) => c,
            _ => return Err(self.unexpected("a quoted string")),
        };
        let body = &trimmed[1..];
        let end = body.find(quote).ok_or_else(|| self.unexpected("a closing quote"))?;
        self.rest = &body[end + 1..];
        Ok(&body[..end])
    }

    fn descr(&mut self) -> Result<(Element, bool)> {
        let unusable = |what: &str| {
            Error::new(
                ErrorKind::Dtype,
                format!(
                    "its elements are {what}, which cannot be used; expected bool, an integer, float16, float32 or \
                     float64: convert it in NumPy with x.astype(numpy.float32)"
                ),
            )
        };
        if self.rest.trim_start().starts_with('[') {
            return Err(unusable("of a structured type"));
        }
        let text = self.string()?;
        let (order, code) = match text.as_bytes().first() {
            Some(b'<' | b'|' | b'=') => (false, &text[1..]),
            Some(b'>') => (true, &text[1..]),
            _ => (false, text),
        };
        let element =
            Element::from_code(code).ok_or_else(|| unusable(&format!("of type `{}`", shorten(text))))?;
        Ok((element, order))
    }

    fn boolean(&mut self) -> Result<bool> {
        if self.take("True") {
            Ok(true)
        } else if self.take("False") {
            Ok(false)
        } else {
            Err(self.unexpected("`True` or `False`"))
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        self.expect("(")?;
        let mut shape = Vec::new();
        while !self.take(")") {
            if shape.len() == MAX_AXES {
                return Err(Error::format(format!("its shape has more than {MAX_AXES} axes")));
            }
            shape.push(self.extent()?);
            if !self.take(",") && !self.rest.trim_start().starts_with(')') {
                return Err(self.unexpected("`,` or `)`"));
            }
        }
        Ok(shape)
    }

    fn extent(&mut self) -> Result<usize> {
        let trimmed = self.rest.trim_start();
        let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let extent = trimmed[..end].parse().map_err(|_| self.unexpected("an extent"))?;
        // NumPy on Python 2 wrote long integers with a trailing L.
        self.rest = trimmed[end..].strip_prefix('L').unwrap_or(&trimmed[end..]);
        Ok(extent)
    }
}

/// At most 24 characters of untrusted text, without control characters.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(24).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(24).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dictionary: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((dictionary.len() as u16).to_le_bytes());
        bytes.extend(dictionary.as_bytes());
        bytes
    }

    #[test]
    fn reads_what_numpy_writes() {
        let header =
            Header::parse(&file("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }  \n")).unwrap();
        assert_eq!((header.element, header.big_endian, header.fortran), (Element::F32, false, false));
        assert_eq!(header.shape, [3, 4]);
        let header =
            Header::parse(&file(r#"{"shape": (7L,), "fortran_order": True, "descr": ">i2"}"#)).unwrap();
        assert_eq!((header.element, header.big_endian, header.fortran), (Element::I16, true, true));
        assert_eq!(header.shape, [7]);
        assert!(
            Header::parse(&file("{'descr': '|b1', 'fortran_order': False, 'shape': ()}"))
                .unwrap()
                .shape
                .is_empty()
        );
    }

    #[test]
    fn own_headers_are_aligned_and_read_back() {
        for shape in [vec![], vec![5], vec![2, 3], vec![usize::MAX; 20]] {
            let bytes = Header::emit("<i8", &shape);
            assert_eq!(bytes.len() % 64, 0);
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(header.shape, shape);
            assert_eq!(header.len, bytes.len());
        }
    }

    #[test]
    fn hostile_headers_say_what_is_wrong() {
        let cases: &[(Vec<u8>, &str)] = &[
            (b"".to_vec(), "not a .npy file"),
            (b"PK\x03\x04.........".to_vec(), ".npz"),
            (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "version 9"),
            (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "truncated"),
            (b"\x93NUMPY\x02\x00\xff\xff".to_vec(), "truncated"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec(), "claims 4294967295 bytes"),
            (file("{}"), "no `descr`"),
            (file("{'descr': '<f4', 'fortran_order': False}"), "no `shape`"),
            (file("{'descr': '<f4' 'x': 1}"), "`,` or `}` expected"),
            (file("{'evil': __import__('os')}"), "unknown key `evil`"),
            (file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}"), "structured"),
            (file("{'descr': '|O', 'fortran_order': False, 'shape': ()}"), "`|O`"),
            (file("{'descr': '<c8', 'fortran_order': False, 'shape': ()}"), "astype"),
            (file("{'descr': '<f4', 'fortran_order': 1, 'shape': ()}"), "`True` or `False`"),
            (file("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "an extent"),
            (
                file("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,)}"),
                "an extent",
            ),
            (file(&format!("{{'shape': ({})}}", "1,".repeat(40))), "more than 32 axes"),
            (file("{'shape': (1 2)}"), "`,` or `)`"),
            (file("{'descr"), "closing quote"),
        ];
        for (bytes, part) in cases {
            let message = Header::parse(bytes).unwrap_err().to_string();
            assert!(message.contains(part), "`{message}` lacks `{part}`");
        }
    }
}
