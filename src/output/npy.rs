//! NumPy's `.npy`: a header and plain numbers, so that a script can check what a network gives.

use std::io::{self, Write};

/// Writes the header of an array of little-endian f32, row-major, of this shape (two axes or more).
///
/// Format 1.0 of `numpy.lib.format`: magic, version, length, a Python literal padded to 64 bytes.
///
/// # Errors
/// What the writer says.
pub fn write_header(writer: &mut impl Write, shape: &[usize]) -> io::Result<()> {
    let lengths = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({lengths}), }}");
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

    /// The first 128 bytes of `numpy.save` of an array of this shape (numpy 2.2).
    #[test]
    fn the_header_is_numpys() {
        let mut bytes = Vec::new();
        write_header(&mut bytes, &[2, 28, 28, 30]).unwrap();
        assert_eq!(bytes.len(), 128);
        assert_eq!(bytes[..10], *b"\x93NUMPY\x01\x00\x76\x00");
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 28, 28, 30), }";
        assert_eq!(String::from_utf8(bytes[10..].to_vec()).unwrap(), format!("{text:117}\n"));
    }
}
