//! Cutting input into pieces, and small reproducible choices: a target must do the same each time it sees an input.

/// The same input in one piece, octet by octet, and cut at places that depend on the input alone.
pub fn splittings(input: &[u8]) -> [Vec<&[u8]>; 3] {
    [vec![input], input.chunks(1).collect(), at_random(input)]
}

fn at_random(input: &[u8]) -> Vec<&[u8]> {
    let mut dice = Dice(
        input
            .iter()
            .fold(input.len() as u64, |sum, octet| (sum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)),
    );
    let (mut pieces, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + dice.below(9)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`; `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }
}

/// Takes fields off the front of an input. What is missing is zero or empty, so that every input means something.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// True if nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One octet.
    pub fn octet(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Two octets, little-endian.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.octet(), self.octet()])
    }

    /// Octets behind their 16-bit length, as many as there are.
    pub fn counted(&mut self) -> &'a [u8] {
        let len = usize::from(self.short()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    /// Octets up to the next NUL, which is dropped.
    pub fn until_nul(&mut self) -> &'a [u8] {
        let end = memchr::memchr(0, self.0);
        let taken = &self.0[..end.unwrap_or(self.0.len())];
        self.0 = self.0.get(taken.len() + 1..).unwrap_or_default();
        taken
    }

    /// The same as text; what is no UTF-8 is replaced.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.until_nul()).into_owned()
    }
}
