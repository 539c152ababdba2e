//! What holds for each message, as two tests per edge.

use proptest::prelude::*;
use vsmtp_ipc::{Message, decode, encode};

/// Decodes hostile bytes; what decodes must be canonical.
fn survives<M: Message>(bytes: &[u8]) {
    if let Ok(message) = decode::<M>(bytes) {
        let _ = message.descriptors();
        assert_eq!(encode(&message).expect("what decoded encodes"), bytes);
    }
}

/// A valid message, and what is left of it after damage.
pub fn survives_damage<M: Message>(message: &M, at: prop::sample::Index, bit: u8, cut: prop::sample::Index) {
    let good = encode(message).expect("a sample encodes");
    assert_eq!(encode(&decode::<M>(&good).expect("a sample decodes")).expect("and encodes"), good);
    let mut flipped = good.clone();
    *flipped.get_mut(at.index(good.len())).expect("an octet") ^= 1 << (bit % 8);
    survives::<M>(&flipped);
    assert!(decode::<M>(&good[..cut.index(good.len())]).is_err(), "a cut message is none");
    assert!(decode::<M>(&[&good[..], &[0]].concat()).is_err(), "nor is a longer one");
}

macro_rules! edge {
    ($module:ident, $($sample:expr),+ $(,)?) => {
        mod $module {
            use proptest::collection::vec;
            use proptest::prelude::*;

            use super::*;
            use crate::property::{check_type, survives_damage};

            proptest! {
                #[test]
                fn random_bytes(bytes in vec(any::<u8>(), 0..400), small in vec(0u8..4, 0..120)) {
                    $( check_type(&$sample, &bytes); check_type(&$sample, &small); )+
                }

                #[test]
                fn damaged_messages(at: prop::sample::Index, bit: u8, cut: prop::sample::Index) {
                    $( survives_damage(&$sample, at, bit, cut); )+
                }
            }
        }
    };
}

pub fn check_type<M: Message>(_sample: &M, bytes: &[u8]) {
    survives::<M>(bytes);
}

pub(crate) use edge;
