//! A call's procedure as its path names it, refusing what two readers could read differently.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

use crate::denial::{Denial, DenialCode};
use crate::facts::Facts;

/// The procedure that a call names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rpc<'a> {
    /// The service with its package (`machine.MachineService`).
    pub service: &'a str,
    /// The method (`Version`).
    pub method: &'a str,
}

impl<'a> Rpc<'a> {
    /// Reads the head of a call: `POST /package.Service/Method` with a gRPC content type.
    pub fn read(facts: &Facts<'a>) -> Result<Self, Denial> {
        let is_call = *facts.method == Method::POST && is_grpc(facts.headers) && facts.query.is_none();
        let named = Self::of_path(facts.raw_path).filter(|_| is_call);
        named.ok_or_else(|| {
            let message = "the gateway takes gRPC calls of the form POST /package.Service/Method only";
            Denial::new(DenialCode::MalformedRequest, message).hint("use talosctl or another gRPC client")
        })
    }

    /// The procedure of a path in its only form.
    pub fn of_path(path: &'a str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(plain);
        (service.split('.').all(is_name) && is_name(method)).then_some(Self { service, method })
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let rest = kind.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_and_no_other() {
        let rpc = Rpc::of_path("/machine.MachineService/Version");
        assert_eq!(rpc, Some(Rpc { service: "machine.MachineService", method: "Version" }));
        for odd in [
            "",
            "/",
            "/machine.MachineService",
            "/machine.MachineService/",
            "//Version",
            "/machine.MachineService/Version/",
            "/machine.MachineService/Version/x",
            "/machine.MachineService/%56ersion",
            "/machine..MachineService/Version",
            "/.MachineService/Version",
            "/machine.MachineService/Ver sion",
            "/machine.MachineService/../Version",
            "machine.MachineService/Version",
        ] {
            assert_eq!(Rpc::of_path(odd), None, "{odd}");
        }
    }
}
