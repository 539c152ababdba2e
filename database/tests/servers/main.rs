//! The process with servers whose protocols it speaks itself. They are played: they answer, or they do what no server may.

mod ldap;
mod memcached;
mod redis;
mod stage;
