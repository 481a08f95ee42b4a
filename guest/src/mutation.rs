//! Inputs of tests that are changed at random, the same each time, for whatever parses what comes from somebody else.

/// Numbers that look random, and what is made with them.
#[derive(Debug)]
pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `most`, or 0.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % most.max(1) as u64) as usize
    }

    /// One of the seeds, with some changes.
    pub(crate) fn change(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            if input.is_empty() {
                input.push(0);
            }
            let at = self.below(input.len());
            match self.below(8) {
                0 => input[at] ^= 1 << self.below(8),
                1 => input[at] = self.below(256) as u8,
                2 => input[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                3 => input.truncate(at),
                4 => input.insert(at, self.below(256) as u8),
                5 => {
                    let part = input[at..].to_vec();
                    input.extend_from_slice(&part[..self.below(part.len())]);
                }
                6 => {
                    // A length somewhere that is too much, or nothing.
                    let wild = [u32::MAX, 0x7fff_ffff, 1 << 20, 0, 5][self.below(5)];
                    let wild = if self.below(2) == 0 { wild.to_be_bytes() } else { wild.to_le_bytes() };
                    let length = wild.len().min(input.len() - at);
                    input[at..at + length].copy_from_slice(&wild[..length]);
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let part = &other[self.below(other.len())..];
                    input.splice(at..at, part[..self.below(part.len())].iter().copied());
                }
            }
        }
        input
    }
}
