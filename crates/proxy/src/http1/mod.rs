//! HTTP/1 on the wire, the same toward agents and toward origins: heads and bodies are read strictly, written anew, and
//! buffered only while something is on its way (RFC 9112).

pub mod decode;
pub(crate) mod encode;
pub mod head;
pub(crate) mod wire;
