//! The deliver daemon: outbound SMTP and LMTP, Maildir and mbox.
