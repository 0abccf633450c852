//! Reads the wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding),
//! every length checked.

use crate::{fail, Result};

pub struct Fields<'a> {
    rest: &'a [u8],
}

pub enum Field<'a> {
    Number(u64),
    Float(f32),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field and its number.
    pub fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Other
            }
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Float(f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            }
            other => return fail(format!("protocol buffer: wire type {other} is not known")),
        };
        Ok(Some((key >> 3, field)))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        match usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len)) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => fail(format!(
                "protocol buffer: a field of {len} bytes where {} are left",
                self.rest.len()
            )),
        }
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        fail("protocol buffer: a number of more than ten bytes")
    }
}
