//! The receiver: client sockets and the SMTP dialogue.
