//! Every configuration key, once: name, type, default, range, readers.
