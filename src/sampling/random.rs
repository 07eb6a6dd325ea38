//! Counter-based random numbers: Threefry-4x32 with 20 rounds (Salmon et al. 2011, *Parallel random
//! numbers: as easy as 1, 2, 3*). `shaders/shared/threefry.wgsl` is its twin, bit for bit.
//!
//! A draw depends on seed, image, pixel and its number within the pixel alone, so an image is the same at
//! any batch size, in any order, on any engine.

/// The noise of one image.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    key: [u32; 4],
}

impl Noise {
    /// The noise of image `image` of seed `seed`.
    pub fn new(seed: u64, image: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32, image as u32, (image >> 32) as u32] }
    }

    /// The key of the generator: seed and image, low word first.
    pub fn key(self) -> [u32; 4] {
        self.key
    }

    /// Fills `draws` with the first uniform numbers of pixel `pixel` (`row · width + column`).
    pub fn uniforms(self, pixel: u32, draws: &mut [f32]) {
        for (block, draws) in (0..).zip(draws.chunks_mut(4)) {
            draws.copy_from_slice(&self.block(pixel, block)[..draws.len()]);
        }
    }

    /// The uniform numbers 4 · `block` to 4 · `block` + 3 of a pixel.
    pub fn block(self, pixel: u32, block: u32) -> [f32; 4] {
        threefry([pixel, block, 0, 0], self.key).map(uniform)
    }

    /// The noise of pixel `pixel` (`row · width + column`).
    pub fn at(self, pixel: usize) -> PixelNoise {
        PixelNoise { noise: self, pixel: pixel as u32 }
    }

    /// A number in (0, 1) with 53 bits, for choices beside pixels: of a counter that no pixel of an image of
    /// `pixels` pixels has.
    pub fn beyond(self, pixels: usize) -> f64 {
        let [high, low, ..] = threefry([pixels as u32, 0, 0, 0], self.key);
        let bits = u64::from(high) << 21 | u64::from(low) >> 11;
        (bits as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

/// The noise of a pixel of an image.
#[derive(Clone, Copy, Debug)]
pub struct PixelNoise {
    noise: Noise,
    pixel: u32,
}

impl PixelNoise {
    /// Word `number` of the generator: 32 bits.
    pub fn word(self, number: usize) -> u32 {
        threefry([self.pixel, (number / 4) as u32, 0, 0], self.noise.key)[number % 4]
    }

    /// The uniform numbers 4 · `block` to 4 · `block` + 3.
    pub fn block(self, block: u32) -> [f32; 4] {
        self.noise.block(self.pixel, block)
    }
}

/// A number in (1e-5, 1 − 1e-5) from 24 bits of a word. There is nothing in it that a GPU's compiler may contract to
/// a fused multiply-add, which would change the last bit.
pub fn uniform(word: u32) -> f32 {
    (((word >> 8) as f32 + 0.5) * (1.0 / 16_777_216.0)).clamp(1e-5, 1.0 - 1e-5)
}

/// Threefry-4x32-20 of a counter under a key.
pub fn threefry(counter: [u32; 4], key: [u32; 4]) -> [u32; 4] {
    const ROTATIONS: [[u32; 2]; 8] =
        [[10, 26], [11, 21], [13, 27], [23, 5], [6, 20], [17, 11], [25, 10], [18, 20]];
    let parity = key.iter().fold(0x1BD1_1BDA, |p, k| p ^ k);
    let keys = [key[0], key[1], key[2], key[3], parity];
    let mut x = counter;
    let inject = |x: &mut [u32; 4], s: usize| {
        for (i, x) in x.iter_mut().enumerate() {
            *x = x.wrapping_add(keys[(s + i) % 5]);
        }
        x[3] = x[3].wrapping_add(s as u32);
    };
    inject(&mut x, 0);
    for round in 0..20 {
        // Words 1 and 3 change places every round.
        let (a, b) = if round % 2 == 0 { (1, 3) } else { (3, 1) };
        let [r0, r1] = ROTATIONS[round % 8];
        x[0] = x[0].wrapping_add(x[a]);
        x[a] = x[a].rotate_left(r0) ^ x[0];
        x[2] = x[2].wrapping_add(x[b]);
        x[b] = x[b].rotate_left(r1) ^ x[2];
        if round % 4 == 3 {
            inject(&mut x, round / 4 + 1);
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Random123's `kat_vectors`, the lines `threefry4x32 20`.
    pub const KNOWN_ANSWERS: [[[u32; 4]; 3]; 3] = [
        [[0; 4], [0; 4], [0x9c6c_a96a, 0xe17e_ae66, 0xfc10_ecd4, 0x5256_a7d8]],
        [[!0; 4], [!0; 4], [0x2a88_1696, 0x5701_2287, 0xf6c7_446e, 0xa16a_6732]],
        [
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0, 0x082e_fa98, 0xec4e_6c89],
            [0x59cd_1dbb, 0xb887_9579, 0x86b5_d00c, 0xac8b_6d84],
        ],
    ];

    #[test]
    fn threefry_gives_the_known_answers() {
        for [counter, key, expected] in KNOWN_ANSWERS {
            assert_eq!(threefry(counter, key), expected);
        }
    }

    #[test]
    fn uniforms_stay_within_their_edges() {
        assert!(uniform(0) == 1e-5 && uniform(u32::MAX) == 1.0 - 1e-5);
        assert_eq!(uniform(0x8000_0000), 0.5 + 0.5 / 16_777_216.0);
    }
}
