//! The filter: policy written in vSL, run on Rhai.
