//! Rows about what requests do where the method alone does not tell. A service has a table of them.
#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::fmt;

use http::Method;

use crate::access::ReadException;
use crate::classify::{BodyRule, Classification, Classified, LoginRule, overrides_method};
use crate::derived::Derivation;
use crate::facts::Facts;
use crate::local::LocalAnswer;
use crate::path::unescaped;

/// One row. Rows that refuse match every spelling of a path that some origin may take for the same; rows that permit match one.
#[derive(Clone, Copy)]
pub struct Operation {
    /// The stable name, `<service>.<what>`.
    pub rule: &'static str,
    /// Methods with spaces between; GET covers HEAD, `*` is all.
    methods: &'static str,
    /// Segments below the service's root: `*` is one, `**` any number, `a|b` either, `a*` a beginning.
    path: &'static str,
    effect: Effect,
    host: Option<&'static str>,
    socket: bool,
    condition: Option<fn(&Facts<'_>) -> bool>,
    derivation: Option<&'static Derivation>,
}

/// What a request that fits a row does.
#[derive(Clone, Copy)]
enum Effect {
    Mint,
    Write,
    Read,
    Except(ReadException),
    Local(LocalAnswer),
    Body(BodyRule),
    /// The head has more to say.
    Look(fn(&Facts<'_>) -> Classification),
}

/// A request as rows look at it.
pub(super) struct Asked<'a> {
    facts: &'a Facts<'a>,
    decoded: Cow<'a, str>,
    any_method: bool,
}

/// Where a service's rows are laid over an origin.
pub(super) struct Site<'a> {
    /// The path above the service's own; no trailing slash.
    pub(super) root: &'a str,
    /// Whether only rows that name their host count, because no rule is for this origin.
    pub(super) named_only: bool,
}

impl Operation {
    /// Creates a credential or other lasting access; denied in both modes.
    pub(super) const fn mint(rule: &'static str, methods: &'static str, path: &'static str) -> Self {
        Self::new(rule, methods, path, Effect::Mint)
    }

    /// May change something, whatever the method says.
    pub(super) const fn write(rule: &'static str, methods: &'static str, path: &'static str) -> Self {
        Self::new(rule, methods, path, Effect::Write)
    }

    /// Changes nothing, although a row below would say so.
    pub(super) const fn read(rule: &'static str, methods: &'static str, path: &'static str) -> Self {
        Self::new(rule, methods, path, Effect::Read)
    }

    /// A query, by POST.
    pub(super) const fn query(rule: &'static str, path: &'static str) -> Self {
        Self::new(rule, "POST", path, Effect::Except(ReadException::GraphqlQuery))
    }

    /// Harmless in a named way, by POST.
    pub(super) const fn except(exception: ReadException, path: &'static str) -> Self {
        Self::new(exception.as_str(), "POST", path, Effect::Except(exception))
    }

    /// A POST whose body tells.
    pub(super) const fn body(rule: BodyRule, path: &'static str) -> Self {
        let name = match rule.exception() {
            Some(exception) => exception.as_str(),
            None => "needs-body",
        };
        Self::new(name, "POST", path, Effect::Body(rule))
    }

    /// Answered by the proxy itself.
    pub(super) const fn local(
        rule: &'static str,
        methods: &'static str,
        path: &'static str,
        answer: LocalAnswer,
    ) -> Self {
        Self::new(rule, methods, path, Effect::Local(answer))
    }

    /// A login's token endpoint: answered by the proxy itself where the body names a placeholder.
    pub(super) const fn login(rule: LoginRule, path: &'static str) -> Self {
        Self::new(rule.rule, "POST", path, Effect::Body(BodyRule::Login(rule)))
    }

    /// Something the rest of the head tells.
    pub(super) const fn look(
        rule: &'static str,
        methods: &'static str,
        path: &'static str,
        look: fn(&Facts<'_>) -> Classification,
    ) -> Self {
        Self::new(rule, methods, path, Effect::Look(look))
    }

    /// Only at this host, which may be one that takes no credential.
    pub(super) const fn at(mut self, host: &'static str) -> Self {
        self.host = Some(host);
        self
    }

    /// Only as a WebSocket, which begins with a GET, or in HTTP/2 with a CONNECT.
    pub(super) const fn socket(mut self) -> Self {
        self.methods = "GET CONNECT";
        self.socket = true;
        self
    }

    /// Only where `condition` holds.
    pub(super) const fn when(mut self, condition: fn(&Facts<'_>) -> bool) -> Self {
        self.condition = Some(condition);
        self
    }

    /// What is asked for is a token; in whatever spelling, the answer is read for it.
    pub(super) const fn derives(mut self, derivation: &'static Derivation) -> Self {
        self.derivation = Some(derivation);
        self
    }

    /// Whether a request that fits is denied in both modes.
    pub fn mints(&self) -> bool {
        match self.effect {
            Effect::Mint => true,
            Effect::Write | Effect::Read | Effect::Except(_) | Effect::Local(_) | Effect::Body(_) | Effect::Look(_) => {
                false
            }
        }
    }

    /// Whether a request that fits does not go out, whatever the mode.
    pub(super) fn keeps_in(&self) -> bool {
        self.mints() || matches!(self.effect, Effect::Local(_) | Effect::Body(BodyRule::Login(_)))
    }

    /// What the request does, if it fits.
    pub(super) fn judge(&self, asked: &Asked<'_>, site: &Site<'_>) -> Option<Classification> {
        let refuses = self.refuses();
        let form = refuses || asked.facts.upgrade == self.socket;
        let method = (refuses && asked.any_method) || self.takes(asked.facts.method);
        let fits = form && method && self.is_at(asked.facts, site) && self.covers(asked, site.root, refuses);
        (fits && self.holds(asked.facts)).then(|| self.outcome(asked.facts))
    }

    /// The tokens in the answer, if the request may be one that is answered with some.
    pub(super) fn answers(&self, asked: &Asked<'_>, site: &Site<'_>) -> Option<&'static Derivation> {
        let derivation = self.derivation?;
        let method = asked.any_method || self.takes(asked.facts.method);
        let fits = method && self.is_at(asked.facts, site) && self.covers(asked, site.root, true);
        (fits && self.holds(asked.facts)).then_some(derivation)
    }

    const fn new(rule: &'static str, methods: &'static str, path: &'static str, effect: Effect) -> Self {
        Self { rule, methods, path, effect, host: None, socket: false, condition: None, derivation: None }
    }

    const fn refuses(&self) -> bool {
        matches!(self.effect, Effect::Mint | Effect::Write)
    }

    fn takes(&self, method: &Method) -> bool {
        let name = if *method == Method::HEAD { "GET" } else { method.as_str() };
        self.methods == "*" || self.methods.split(' ').any(|listed| listed == name)
    }

    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.condition.is_none_or(|condition| condition(facts))
    }

    fn is_at(&self, facts: &Facts<'_>, site: &Site<'_>) -> bool {
        match self.host {
            None => !site.named_only,
            Some(host) => facts.origin.host.name() == Some(host),
        }
    }

    fn covers(&self, asked: &Asked<'_>, root: &str, loosely: bool) -> bool {
        let pattern = self.path.split('/');
        if !loosely {
            let below = asked.facts.path.and_then(|path| path.as_str().strip_prefix(root)?.strip_prefix('/'));
            return below.is_some_and(|path| fits(pattern, path.split('/'), segment_is));
        }
        let below = below_loosely(&asked.decoded, root);
        below.is_some_and(|path| fits(pattern, path.split('/').filter(|s| !s.is_empty()), segment_may_be))
    }

    fn outcome(&self, facts: &Facts<'_>) -> Classification {
        match self.effect {
            Effect::Mint => Classified::mint(self.rule).into(),
            Effect::Write => Classified::write(self.rule).into(),
            Effect::Read => Classified::read(self.rule).into(),
            Effect::Except(exception) => Classified::excepted_by(exception, self.rule).into(),
            Effect::Local(answer) => Classified::local(answer, self.rule).into(),
            Effect::Body(rule) => rule.by_head(facts),
            Effect::Look(look) => look(facts),
        }
    }
}

/// The row as the table has it: its methods, its host where it names one, its path; a WebSocket's say so.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.methods, self.host.unwrap_or_default(), self.path)?;
        if self.socket { f.write_str(" upgrade") } else { Ok(()) }
    }
}

impl<'a> Asked<'a> {
    pub(super) fn of(facts: &'a Facts<'a>) -> Self {
        let decoded = unescaped(facts.raw_path);
        Self { facts, decoded, any_method: overrides_method(facts).is_some() }
    }
}

fn below_loosely<'p>(path: &'p str, root: &str) -> Option<&'p str> {
    let (start, rest) = path.split_at_checked(root.len())?;
    start.eq_ignore_ascii_case(root).then_some(rest).filter(|rest| rest.starts_with('/'))
}

/// The usual matching of `*` in time proportional to both lengths: after a mismatch only the last `**` takes one more.
fn fits<'p>(
    mut pattern: impl Iterator<Item = &'p str> + Clone,
    mut path: impl Iterator<Item = &'p str> + Clone,
    same: fn(&str, &str) -> bool,
) -> bool {
    let mut retry = None;
    loop {
        let here = path.clone();
        match (pattern.next(), path.next()) {
            (Some("**"), _) => {
                retry = Some((pattern.clone(), here.clone()));
                path = here;
            }
            (Some(wanted), Some(segment)) if same(wanted, segment) => {}
            (None, None) => return true,
            _ => {
                let Some((after, from)) = &mut retry else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, path) = (after.clone(), from.clone());
            }
        }
    }
}

fn segment_is(wanted: &str, segment: &str) -> bool {
    let plain = !segment.is_empty() && !segment.contains('%');
    plain && either(wanted, |one| one == segment || beginning(one).is_some_and(|start| segment.starts_with(start)))
}

/// Some frameworks ignore case, and take a `.json` for the form that is wanted.
fn segment_may_be(wanted: &str, segment: &str) -> bool {
    let begins = |start: &str| segment.get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start));
    let bare = segment.rsplit_once('.').filter(|(_, end)| end.eq_ignore_ascii_case("json")).map(|(bare, _)| bare);
    let is = |one: &str| segment.eq_ignore_ascii_case(one) || bare.is_some_and(|bare| bare.eq_ignore_ascii_case(one));
    either(wanted, |one| is(one) || beginning(one).is_some_and(begins))
}

fn either(wanted: &str, is: impl Fn(&str) -> bool) -> bool {
    wanted.split('|').any(is)
}

/// What stands before the `*`; all of a lone one is nothing.
fn beginning(wanted: &str) -> Option<&str> {
    wanted.strip_suffix('*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strictly(pattern: &str, path: &str) -> bool {
        fits(pattern.split('/'), path.split('/'), segment_is)
    }

    fn loosely(pattern: &str, path: &str) -> bool {
        fits(pattern.split('/'), path.split('/').filter(|s| !s.is_empty()), segment_may_be)
    }

    /// The same in the plainest way.
    fn slowly(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            ([], []) => true,
            (["**", rest @ ..], _) => (0..=path.len()).any(|n| slowly(rest, path.get(n..).unwrap_or_default())),
            ([wanted, rest @ ..], [segment, below @ ..]) => segment_is(wanted, segment) && slowly(rest, below),
            _ => false,
        }
    }

    #[test]
    fn a_permission_knows_one_spelling_a_refusal_all() {
        assert!(strictly("a/*/b|c", "a/x/c"));
        for other in ["a/x/C", "a/%78/c", "a//c", "a/x/c/", "A/x/c"] {
            assert!(!strictly("a/*/b|c", other), "{other}");
        }
        for other in ["a/x/C", "A/x/c/", "/a//x/c.json", "a/x/B.JSON"] {
            assert!(loosely("a/*/b|c", other), "{other}");
        }
        assert!(loosely("**/user:*/**", "-/User:me/-rev/1") && !loosely("**/user:*", "-/use/x"));
    }

    #[test]
    fn roots_end_at_segments() {
        assert_eq!(below_loosely("/g/api", "/G"), Some("/api"));
        assert_eq!(below_loosely("/gx/api", "/g"), None);
        assert_eq!(below_loosely("/é", "/g"), None);
    }

    proptest! {
        #[test]
        fn stars_match_as_the_slow_reference_says(
            pattern in proptest::collection::vec("a|b|\\*|\\*\\*", 0..6), path in proptest::collection::vec("[ab]", 0..8)
        ) {
            let (pattern, path): (Vec<&str>, Vec<&str>) =
                (pattern.iter().map(String::as_str).collect(), path.iter().map(String::as_str).collect());
            let fast = fits(pattern.iter().copied(), path.iter().copied(), segment_is);
            prop_assert_eq!(fast, slowly(&pattern, &path));
        }
    }
}
