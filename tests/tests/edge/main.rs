//! The edge as clients meet it: the services, and what each of them speaks.

mod chunks;
mod origins;
mod services;
