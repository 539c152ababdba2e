//! vsmtpctl, the operator's tool.
