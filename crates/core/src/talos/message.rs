//! The one message that decides a call's class: what a read of the resource API (COSI) asks for.

use super::Kind;

/// What such a read asks for. The message is the same in this for Get, List and Watch: namespace is field 1, type field 2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// The resource's type (`MachineConfigs.config.talos.dev`).
    pub resource: String,
    /// Its namespace.
    pub namespace: String,
    sensitive: bool,
}

/// A message that two readers could read differently, or that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call's message cannot be read; send it whole and uncompressed")]
pub struct Unreadable;

impl Asked {
    /// Reads the body of a call: one message, uncompressed (gRPC's Length-Prefixed-Message).
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        let ([0, length @ ..], message) = body.split_first_chunk::<5>().ok_or(Unreadable)? else {
            return Err(Unreadable);
        };
        if u32::from_be_bytes(*length) as usize != message.len() {
            return Err(Unreadable);
        }
        let mut asked = Self::default();
        let mut fields = Fields(message);
        while let Some((number, bytes)) = fields.next()? {
            let text = || std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Unreadable);
            match number {
                1 => asked.namespace = text()?,
                2 => {
                    asked.resource = text()?;
                    // Of a field that is there twice the last counts; here any does.
                    asked.sensitive |= is_sensitive(&asked.resource);
                }
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The kind of the read.
    pub fn kind(&self) -> Kind {
        if self.sensitive { Kind::SecretRead } else { Kind::ResourceRead }
    }
}

/// Whether resources of this type hold secrets: those that Talos itself shows to administrators only.
fn is_sensitive(resource: &str) -> bool {
    let name = resource.to_ascii_lowercase();
    let kind = name.strip_suffix(DOMAIN).unwrap_or(&name);
    kind.ends_with(".secrets") || SENSITIVE.contains(&kind)
}

/// The fields of a message that are texts, bytes or messages; the others are passed over.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The first of the fields with this number.
    pub(super) fn of(mut self, number: u64) -> Option<&'a [u8]> {
        loop {
            match self.next().ok()? {
                Some((found, bytes)) if found == number => return Some(bytes),
                Some(_) => {}
                None => return None,
            }
        }
    }

    fn next(&mut self) -> Result<Option<(u64, &'a [u8])>, Unreadable> {
        while !self.0.is_empty() {
            let tag = self.varint()?;
            let (number, wire) = (tag >> 3, tag & 7);
            match wire {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => {
                    let length = usize::try_from(self.varint()?).map_err(|_| Unreadable)?;
                    return self.take(length).map(|bytes| Some((number, bytes)));
                }
                5 => drop(self.take(4)?),
                _ => return Err(Unreadable),
            }
        }
        Ok(None)
    }

    fn varint(&mut self) -> Result<u64, Unreadable> {
        let mut value = 0_u64;
        for place in 0..10 {
            let byte = u64::from(*self.take(1)?.first().ok_or(Unreadable)?);
            // The tenth byte has room for one bit.
            if place == 9 && byte > 1 {
                return Err(Unreadable);
            }
            value |= (byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unreadable)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(taken)
    }
}

const DOMAIN: &str = ".talos.dev";

/// Types outside of `secrets.talos.dev`, in lower case.
const SENSITIVE: [&str; 25] = [
    "apiserverconfigs.kubernetes",
    "auditpolicyconfigs.kubernetes",
    "authenticationconfigs.kubernetes",
    "authorizationconfigs.kubernetes",
    "customizationconfigs.cri",
    "deviceconfigspecs.net",
    "discoveryconfigs.cluster",
    "etcdencryptionconfigs.kubernetes",
    "etcfilespecs.files",
    "extensionserviceconfigs.runtime",
    "kubeletconfigs.kubernetes",
    "kubeletspecs.kubernetes",
    "kubespanconfigs.kubespan",
    "kubespanidentities.kubespan",
    "linkspecs.net",
    "machineconfigs.config",
    "nodeannotationspecs.k8s",
    "nodecordonedspecs.k8s",
    "nodelabelspecs.k8s",
    "nodetaintspecs.k8s",
    "operatorspecs.net",
    "registryconfigs.cri",
    "siderolinkconfigs.siderolink",
    "siderolinktunnels.siderolink",
    "volumeconfigs.block",
];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[0][..], &length.to_be_bytes(), message].concat()
    }

    fn field(number: u8, text: &str) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat()
    }

    #[test]
    fn secrets_are_told_from_the_rest() {
        let message = [field(1, "config"), field(2, "MachineConfigs.config.talos.dev"), field(3, "v1alpha1")].concat();
        let asked = Asked::read(&framed(&message)).unwrap();
        assert_eq!((asked.namespace.as_str(), asked.kind()), ("config", Kind::SecretRead));
        for (kind, sensitive) in [
            ("KubernetesRootSecrets.secrets.talos.dev", true),
            ("ofthefuture.SECRETS.talos.dev", true),
            ("machineconfigs.config.talos.dev", true),
            ("Members.cluster.talos.dev", false),
            ("secretsless.cluster.talos.dev", false),
        ] {
            let asked = Asked::read(&framed(&field(2, kind))).unwrap();
            assert_eq!(asked.kind() == Kind::SecretRead, sensitive, "{kind}");
        }
    }

    #[test]
    fn a_second_type_does_not_hide_the_first() {
        let (secret, other) = (field(2, "MachineConfigs.config.talos.dev"), field(2, "Members.cluster.talos.dev"));
        for message in [[secret.clone(), other.clone()].concat(), [other, secret].concat()] {
            assert_eq!(Asked::read(&framed(&message)).unwrap().kind(), Kind::SecretRead);
        }
    }

    #[test]
    fn what_cannot_be_read_one_way_is_refused() {
        let message = field(2, "Members.cluster.talos.dev");
        let whole = framed(&message);
        let compressed: Vec<u8> = std::iter::once(1).chain(whole.iter().skip(1).copied()).collect();
        let torn: Vec<u8> = whole.iter().take(7).copied().collect();
        let two = [whole.clone(), whole.clone()].concat();
        let group = framed(&[0x0b, 0x0c]);
        for odd in [&[][..], &torn, &compressed, &two, &group, &framed(&[0x12, 0x7f, 1])] {
            assert_eq!(Asked::read(odd), Err(Unreadable), "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Asked::read(&bytes);
            let _ = Asked::read(&framed(&bytes));
        }
    }
}
