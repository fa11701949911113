//! The runtime for browsers and Node. The module that this crate makes has the interface for C (`offshoot-c`), and beside it what a caller
//! in JavaScript lacks: memory ([`memory`]), what the operators of a file are ([`describe`]), and times of operators ([`profile`]).
//!
//! People use the JavaScript module in `package/`, which knows all of this. The guide is `docs/src/web.md`.
//!
//! # Contract
//! That of `offshoot-c`: a status, never a crash. A module of WebAssembly cannot catch a panic: a bug in the runtime stops the call with
//! `WebAssembly.RuntimeError`, after which `package/offshoot.js` refuses further calls on that instance.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod describe;
pub mod memory;
pub mod profile;

pub use offshoot_c as interface;
