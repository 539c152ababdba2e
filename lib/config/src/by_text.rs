//! A validated type that crosses the wire as its text and is parsed again where it arrives.

use std::fmt;
use std::ops::Deref;

use bincode::de::{BorrowDecode, BorrowDecoder, Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use vsmtp_mail::{Address, Domain, NextHop, Service};

/// A type with one canonical text form.
pub trait Textual: Sized {
    /// Reads the text form; `None` if it is not one.
    fn from_text(text: &str) -> Option<Self>;
    /// The text form.
    fn to_text(&self) -> String;
}

/// Carries a `T` in a slice. It can only hold a `T` that passed its constructor, on either side of the wire.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ByText<T>(T);

impl<T> ByText<T> {
    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for ByText<T> {
    fn from(value: T) -> Self {
        ByText(value)
    }
}

impl<T> Deref for ByText<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for ByText<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Textual> Encode for ByText<T> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.to_text().encode(encoder)
    }
}

impl<T: Textual, C> Decode<C> for ByText<T> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let text = String::decode(decoder)?;
        T::from_text(&text).map(ByText).ok_or(DecodeError::Other("not the text of a valid value"))
    }
}

impl<'de, T: Textual, C> BorrowDecode<'de, C> for ByText<T> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl Textual for Domain {
    fn from_text(text: &str) -> Option<Self> {
        Domain::parse(text).ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Textual for Address {
    fn from_text(text: &str) -> Option<Self> {
        Address::parse(text).ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Textual for NextHop {
    fn from_text(text: &str) -> Option<Self> {
        NextHop::parse(text).ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Textual for Service {
    fn from_text(text: &str) -> Option<Self> {
        Service::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode};

    #[test]
    fn a_bad_text_dies_at_the_door() {
        let good = encode(&ByText(Domain::parse("Example.COM").unwrap())).unwrap();
        assert_eq!(decode::<ByText<Domain>>(&good).unwrap().as_str(), "example.com");
        let bad = encode(&"example.com\r\n".to_owned()).unwrap();
        assert!(decode::<ByText<Domain>>(&bad).is_err());
    }
}
