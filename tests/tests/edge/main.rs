//! The edge as clients meet it: the services, and what each of them speaks.

mod chunks;
mod names;
mod origins;
mod services;
