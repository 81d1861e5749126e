//! Thousands of proofs in one pipe. A case is four parts, one after the other: the proof's length and the number of
//! its public values, each a u32; the proof; the public values, each a u32. All little-endian.

use std::io::{self, BufRead};

/// One proof as it came: nothing of it is believed yet.
pub struct Case {
    pub proof: Vec<u8>,
    pub public: Vec<u32>,
}

/// The next case, or none at the end of the stream.
///
/// # Errors
/// The stream ends within a case, or cannot be read.
pub fn next_case(stream: &mut impl BufRead) -> io::Result<Option<Case>> {
    if stream.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let lengths = words(stream, 2)?;
    let mut proof = vec![0; lengths[0] as usize];
    stream.read_exact(&mut proof)?;
    let public = words(stream, lengths[1] as usize)?;
    Ok(Some(Case { proof, public }))
}

fn words(stream: &mut impl BufRead, count: usize) -> io::Result<Vec<u32>> {
    (0..count)
        .map(|_| {
            let mut word = [0; 4];
            stream.read_exact(&mut word)?;
            Ok(u32::from_le_bytes(word))
        })
        .collect()
}
