//! NumPy's `.npy`: a header and plain numbers, for scripts and evaluators of images.

use std::io::{self, Write};

/// Types of elements, all little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `uint8`
    U8,
    /// `uint16`
    U16,
    /// `int64`
    I64,
    /// `float32`
    F32,
    /// `float64`
    F64,
    /// Texts of at most this many characters.
    Text(usize),
}

impl Type {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::I64 | Self::F64 => 8,
            Self::F32 => 4,
            Self::Text(length) => 4 * length,
        }
    }

    fn name(self) -> String {
        match self {
            Self::U8 => "|u1".to_owned(),
            Self::U16 => "<u2".to_owned(),
            Self::I64 => "<i8".to_owned(),
            Self::F32 => "<f4".to_owned(),
            Self::F64 => "<f8".to_owned(),
            Self::Text(length) => format!("<U{length}"),
        }
    }
}

/// Writes the header of a row-major array.
///
/// Format 1.0 of `numpy.lib.format`: magic, version, length, a Python literal padded to 64 bytes.
///
/// # Errors
/// What the writer says.
pub fn write_header(writer: &mut impl Write, of: Type, shape: &[usize]) -> io::Result<()> {
    let lengths = match shape {
        [length] => format!("{length},"),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let dictionary =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({lengths}), }}", of.name());
    let before = b"\x93NUMPY\x01\x00".len() + 2;
    let length = (before + dictionary.len() + 1).next_multiple_of(64) - before;
    writer.write_all(b"\x93NUMPY\x01\x00")?;
    writer.write_all(&(length as u16).to_le_bytes())?;
    writeln!(writer, "{dictionary:0$}", length - 1)
}

/// Writes numbers of the array, in order.
///
/// # Errors
/// What the writer says.
pub fn write_values(writer: &mut impl Write, values: &[f32]) -> io::Result<()> {
    values.iter().try_for_each(|v| writer.write_all(&v.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `numpy.save` begins files of such arrays (numpy 2.2).
    #[test]
    fn the_header_is_numpys() {
        for (of, shape, text) in [
            (
                Type::F32,
                &[2, 28, 28, 30][..],
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 28, 28, 30), }",
            ),
            (Type::I64, &[7], "{'descr': '<i8', 'fortran_order': False, 'shape': (7,), }"),
            (Type::Text(3), &[], "{'descr': '<U3', 'fortran_order': False, 'shape': (), }"),
        ] {
            let mut bytes = Vec::new();
            write_header(&mut bytes, of, shape).unwrap();
            assert_eq!(bytes.len(), 128);
            assert_eq!(bytes[..10], *b"\x93NUMPY\x01\x00\x76\x00");
            assert_eq!(String::from_utf8(bytes[10..].to_vec()).unwrap(), format!("{text:117}\n"));
        }
    }
}
