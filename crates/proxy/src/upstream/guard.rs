//! Which addresses may be dialled: an agent must not reach, through us, what only this machine or its network can.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clauderon_core::config::Cidr;

/// Whether `ip` may be dialled. Every IPv4 address that an IPv6 address wraps counts too; cloud metadata services are
/// refused whatever `allow_private` says, for they hand out the machine's own credentials to anyone who asks.
pub(crate) fn check(ip: IpAddr, allow_private: &[Cidr]) -> Result<(), Forbidden> {
    let ip = ip.to_canonical();
    let wrapped = wrapped(ip);
    let forms = || std::iter::once(ip).chain(wrapped.iter().flatten().copied().map(IpAddr::V4));
    if forms().any(is_metadata) {
        return Err(Forbidden { address: ip, kind: Kind::Metadata });
    }
    let allowed = |form: IpAddr| allow_private.iter().any(|block| block.contains(form));
    if allowed(ip) {
        return Ok(());
    }
    forms()
        .filter(|&form| !allowed(form))
        .find_map(forbidden_kind)
        .map_or(Ok(()), |kind| Err(Forbidden { address: ip, kind }))
}

/// An address that may not be dialled, and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forbidden {
    /// The address, IPv4-mapped forms unwrapped.
    pub(crate) address: IpAddr,
    /// Its kind.
    pub(crate) kind: Kind,
}

/// Kinds of addresses that are not the public internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This machine.
    Loopback,
    /// This network segment.
    LinkLocal,
    /// A private network, unique-local and site-local included.
    Private,
    /// Carrier-grade NAT (RFC 6598).
    SharedNat,
    /// "This host on this network".
    Unspecified,
    /// Many receivers.
    Multicast,
    /// Documentation, benchmarking and whatever else no public host may have.
    Reserved,
    /// A cloud metadata service.
    Metadata,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Loopback => "a loopback",
            Kind::LinkLocal => "a link-local",
            Kind::Private => "a private",
            Kind::SharedNat => "a carrier-grade NAT",
            Kind::Unspecified => "an unspecified",
            Kind::Multicast => "a multicast",
            Kind::Reserved => "a reserved",
            Kind::Metadata => "a cloud metadata",
        };
        write!(f, "{} is {kind} address", self.address)
    }
}

fn is_metadata(ip: IpAddr) -> bool {
    METADATA.iter().any(|block| block.contains(ip))
}

fn forbidden_kind(ip: IpAddr) -> Option<Kind> {
    let listed = FORBIDDEN.iter().find(|(block, _)| block.contains(ip)).map(|(_, kind)| *kind);
    // Outside 2000::/3 nothing is assigned to public hosts (RFC 4291 § 2.4), except the way to IPv4 ones.
    let public = ip.is_ipv4() || GLOBAL_UNICAST.contains(ip) || NAT64.contains(ip);
    listed.or_else(|| (!public).then_some(Kind::Reserved))
}

/// The IPv4 addresses that a translator or tunnel could turn `ip` into, at every position one may stand.
fn wrapped(ip: IpAddr) -> [Option<Ipv4Addr>; 4] {
    let IpAddr::V6(ip) = ip else { return [None; 4] };
    let at = |places: [usize; 4]| Some(Ipv4Addr::from(places.map(|place| ip.octets()[place])));
    let tail = at([12, 13, 14, 15]);
    let within = |block: &Cidr| block.contains(ip.into());
    match () {
        // RFC 4291 § 2.5.5.1, RFC 2765 § 2.1, RFC 6052 § 2.1.
        () if within(&COMPATIBLE) || within(&TRANSLATED) || within(&NAT64) => [tail, None, None, None],
        // RFC 8215 leaves the prefix length to the operator; RFC 6052 § 2.2 says where the address then stands.
        () if within(&NAT64_LOCAL) => [tail, at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12])],
        // RFC 3056 § 2.
        () if within(&SIX_TO_FOUR) => [at([2, 3, 4, 5]), None, None, None],
        // RFC 4380 § 4: the server, and the client with every bit flipped.
        () if within(&TEREDO) => [at([4, 5, 6, 7]), tail.map(|client| !client), None, None],
        // RFC 5214 § 6.1: ISATAP, under any prefix.
        () if matches!(ip.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, _, _]) => [tail, None, None, None],
        () => [None; 4],
    }
}

const fn v4(octets: [u8; 4], prefix: u8) -> Cidr {
    let [a, b, c, d] = octets;
    Cidr { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
}

const fn v6(address: Ipv6Addr, prefix: u8) -> Cidr {
    Cidr { address: IpAddr::V6(address), prefix }
}

/// An address from its first four and its last segment; the three between are zero in every entry below.
const fn seg(a: u16, b: u16, c: u16, d: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, last)
}

/// From the clouds' own documentation.
const METADATA: &[Cidr] = &[
    v4([169, 254, 169, 254], 32), // AWS, Azure, Google, Oracle, DigitalOcean, OpenStack
    v4([169, 254, 170, 0], 23),   // AWS: ECS task roles (.2) and EKS pod identity (.23)
    v4([169, 254, 0, 23], 32),    // Tencent
    v4([100, 100, 100, 200], 32), // Alibaba
    v4([168, 63, 129, 16], 32),   // Azure's host agent, a public address that only a guest can reach
    v4([192, 0, 0, 192], 32),     // Oracle
    v6(seg(0xfd00, 0xec2, 0, 0, 0x254), 128), // AWS
    v6(seg(0xfd00, 0xec2, 0, 0, 0x23), 128), // AWS: EKS pod identity
    v6(seg(0xfd20, 0xce, 0, 0, 0x254), 128), // Google
    v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe), 128), // OpenStack
];

/// From the IANA special-purpose address registries (RFC 6890).
const FORBIDDEN: &[(Cidr, Kind)] = &[
    (v4([0, 0, 0, 0], 8), Kind::Unspecified),
    (v4([10, 0, 0, 0], 8), Kind::Private),
    (v4([100, 64, 0, 0], 10), Kind::SharedNat),
    (v4([127, 0, 0, 0], 8), Kind::Loopback),
    (v4([169, 254, 0, 0], 16), Kind::LinkLocal),
    (v4([172, 16, 0, 0], 12), Kind::Private),
    (v4([192, 0, 0, 0], 24), Kind::Reserved),
    (v4([192, 0, 2, 0], 24), Kind::Reserved),
    (v4([192, 88, 99, 0], 24), Kind::Reserved),
    (v4([192, 168, 0, 0], 16), Kind::Private),
    (v4([198, 18, 0, 0], 15), Kind::Reserved),
    (v4([198, 51, 100, 0], 24), Kind::Reserved),
    (v4([203, 0, 113, 0], 24), Kind::Reserved),
    (v4([224, 0, 0, 0], 4), Kind::Multicast),
    (v4([240, 0, 0, 0], 4), Kind::Reserved),
    (v6(seg(0, 0, 0, 0, 0), 128), Kind::Unspecified),
    (v6(seg(0, 0, 0, 0, 1), 128), Kind::Loopback),
    (v6(seg(0xfc00, 0, 0, 0, 0), 7), Kind::Private),
    (v6(seg(0xfe80, 0, 0, 0, 0), 10), Kind::LinkLocal),
    (v6(seg(0xfec0, 0, 0, 0, 0), 10), Kind::Private),
    (v6(seg(0xff00, 0, 0, 0, 0), 8), Kind::Multicast),
    // IETF protocol assignments but for Teredo (2001::/32), whose wrapped addresses are judged instead.
    (v6(seg(0x2001, 1, 0, 0, 0), 32), Kind::Reserved),
    (v6(seg(0x2001, 2, 0, 0, 0), 31), Kind::Reserved),
    (v6(seg(0x2001, 4, 0, 0, 0), 30), Kind::Reserved),
    (v6(seg(0x2001, 8, 0, 0, 0), 29), Kind::Reserved),
    (v6(seg(0x2001, 0x10, 0, 0, 0), 28), Kind::Reserved),
    (v6(seg(0x2001, 0x20, 0, 0, 0), 27), Kind::Reserved),
    (v6(seg(0x2001, 0x40, 0, 0, 0), 26), Kind::Reserved),
    (v6(seg(0x2001, 0x80, 0, 0, 0), 25), Kind::Reserved),
    (v6(seg(0x2001, 0x100, 0, 0, 0), 24), Kind::Reserved),
    (v6(seg(0x2001, 0xdb8, 0, 0, 0), 32), Kind::Reserved),
    (v6(seg(0x3fff, 0, 0, 0, 0), 20), Kind::Reserved),
];

const GLOBAL_UNICAST: Cidr = v6(seg(0x2000, 0, 0, 0, 0), 3);
const COMPATIBLE: Cidr = v6(seg(0, 0, 0, 0, 0), 96);
const TRANSLATED: Cidr = v6(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96);
const NAT64: Cidr = v6(seg(0x64, 0xff9b, 0, 0, 0), 96);
const NAT64_LOCAL: Cidr = v6(seg(0x64, 0xff9b, 1, 0, 0), 48);
const SIX_TO_FOUR: Cidr = v6(seg(0x2002, 0, 0, 0, 0), 16);
const TEREDO: Cidr = v6(seg(0x2001, 0, 0, 0, 0), 32);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn kind(ip: &str, allow: &[&str]) -> Option<Kind> {
        let allow: Vec<Cidr> = allow.iter().map(|block| block.parse().unwrap()).collect();
        check(ip.parse().unwrap(), &allow).err().map(|forbidden| forbidden.kind)
    }

    #[test]
    fn public_addresses_may_be_dialled() {
        let public = [
            "1.1.1.1",
            "140.82.121.4",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2001:4860::1",
        ];
        let wrapped = ["::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:0101:0101::1", "2001:0:0101:0101::fefe:fefe"];
        for ip in public.into_iter().chain(wrapped) {
            assert_eq!(kind(ip, &[]), None, "{ip}");
        }
    }

    #[test]
    fn each_kind_is_refused_and_named() {
        let cases = [
            ("0.0.0.0", Kind::Unspecified),
            ("0.1.2.3", Kind::Unspecified),
            ("127.0.0.1", Kind::Loopback),
            ("127.255.255.254", Kind::Loopback),
            ("10.0.0.1", Kind::Private),
            ("172.31.255.255", Kind::Private),
            ("192.168.1.1", Kind::Private),
            ("100.64.0.1", Kind::SharedNat),
            ("169.254.1.1", Kind::LinkLocal),
            ("192.0.0.8", Kind::Reserved),
            ("192.0.2.1", Kind::Reserved),
            ("198.18.0.1", Kind::Reserved),
            ("198.19.255.255", Kind::Reserved),
            ("198.51.100.1", Kind::Reserved),
            ("203.0.113.1", Kind::Reserved),
            ("224.0.0.1", Kind::Multicast),
            ("239.255.255.255", Kind::Multicast),
            ("240.0.0.1", Kind::Reserved),
            ("255.255.255.255", Kind::Reserved),
            ("::", Kind::Unspecified),
            ("::1", Kind::Loopback),
            ("fe80::1", Kind::LinkLocal),
            ("fec0::1", Kind::Private),
            ("fc00::1", Kind::Private),
            ("fdff::1", Kind::Private),
            ("ff02::1", Kind::Multicast),
            ("100::1", Kind::Reserved),
            ("5f00::1", Kind::Reserved),
            ("4000::1", Kind::Reserved),
            ("2001:2::1", Kind::Reserved),
            ("2001:1::1", Kind::Reserved),
            ("2001:10::1", Kind::Reserved),
            ("2001:1ff::1", Kind::Reserved),
            ("2001:db8::1", Kind::Reserved),
            ("3fff::1", Kind::Reserved),
        ];
        for (ip, expected) in cases {
            assert_eq!(kind(ip, &[]), Some(expected), "{ip}");
        }
    }

    /// Every spelling under which IPv6 can carry `inner`.
    fn wrappings(inner: Ipv4Addr) -> Vec<String> {
        let [a, b, c, d] = inner.octets();
        let flipped = !inner;
        vec![
            format!("::ffff:{inner}"),
            format!("::{inner}"),
            format!("::ffff:0:{inner}"),
            format!("64:ff9b::{inner}"),
            format!("64:ff9b:1::{inner}"),
            format!("64:ff9b:1:{a:02x}{b:02x}:00{c:02x}:{d:02x}00::"),
            format!("64:ff9b:1:00{a:02x}:00{b:02x}:{c:02x}{d:02x}::"),
            format!("64:ff9b:1:0:00{a:02x}:{b:02x}{c:02x}:{d:02x}00:0"),
            format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
            format!("2001:0:{a:02x}{b:02x}:{c:02x}{d:02x}::fefe:fefe"),
            format!("2001:0:101:101:0:0:{flipped}"),
            format!("2606:4700::5efe:{inner}"),
            format!("2606:4700::200:5efe:{inner}"),
        ]
    }

    #[test]
    fn wrapping_hides_nothing() {
        for inner in ["127.0.0.1", "10.1.2.3", "169.254.1.1", "100.64.0.1", "192.168.0.1", "224.0.0.1", "0.0.0.1"] {
            for wrapped in wrappings(inner.parse().unwrap()) {
                assert!(kind(&wrapped, &[]).is_some(), "{inner} as {wrapped}");
            }
        }
    }

    #[test]
    fn metadata_is_never_allowed() {
        let plain =
            ["169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192"];
        for ip in plain {
            for form in wrappings(ip.parse().unwrap()).into_iter().chain([ip.to_owned()]) {
                assert_eq!(kind(&form, &["0.0.0.0/0", "::/0"]), Some(Kind::Metadata), "{ip} as {form}");
            }
        }
        for ip in ["fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fe80::a9fe:a9fe"] {
            assert_eq!(kind(ip, &["::/0"]), Some(Kind::Metadata), "{ip}");
        }
    }

    #[test]
    fn what_is_listed_may_be_dialled_and_nothing_beside_it() {
        assert_eq!(kind("10.1.2.3", &["10.1.2.0/24"]), None);
        assert_eq!(kind("::ffff:10.1.2.3", &["10.1.2.0/24"]), None);
        assert_eq!(kind("64:ff9b::10.1.2.3", &["10.1.2.0/24"]), None);
        assert_eq!(kind("10.1.3.3", &["10.1.2.0/24"]), Some(Kind::Private));
        assert_eq!(kind("::1", &["127.0.0.0/8"]), Some(Kind::Loopback));
        assert_eq!(kind("fd12::1", &["fd12::/16"]), None);
    }

    #[test]
    fn the_text_names_the_address() {
        let forbidden = check("::ffff:10.1.2.3".parse().unwrap(), &[]).unwrap_err();
        assert_eq!(forbidden.to_string(), "10.1.2.3 is a private address");
    }
}
