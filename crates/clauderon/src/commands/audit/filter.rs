//! Which audit lines are meant.

use clauderon_core::audit::AuditLine;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::is_alarm;
use crate::cli::AuditQuery;

/// Every given filter must match.
pub(super) struct Filter(AuditQuery);

impl From<AuditQuery> for Filter {
    fn from(query: AuditQuery) -> Self {
        Self(query)
    }
}

impl Filter {
    /// Whether `line` is meant.
    pub(super) fn matches(&self, line: &AuditLine) -> bool {
        let Self(query) = self;
        let given = |wanted: &Option<String>, matches: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(matches);
        given(&query.session, &|name| line.session.as_deref() == Some(name) || line.session_id.as_deref() == Some(name))
            && given(&query.service, &|name| line.service == name || line.host == name)
            && given(&query.method, &|method| line.method.eq_ignore_ascii_case(method))
            && (!query.denied || !line.allowed)
            && (!query.alarms || is_alarm(line))
            && query.status.is_none_or(|statuses| statuses.contains(line.response_code))
            && query.since.is_none_or(|since| is_after(line, since))
    }
}

/// Whether a line was written at `since` or later; a line without a readable time is kept, so that nothing hides.
pub(super) fn is_after(line: &AuditLine, since: OffsetDateTime) -> bool {
    OffsetDateTime::parse(&line.timestamp, &Rfc3339).map_or(true, |at| at >= since)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use crate::status::Statuses;

    fn hit(query: AuditQuery) -> bool {
        Filter::from(query).matches(&sample())
    }

    #[test]
    fn each_filter_lets_its_lines_through_and_no_others() {
        assert!(hit(AuditQuery::default()));
        for (right, wrong) in [("review", "revie"), ("0badcafe", "0badcaff")] {
            assert!(hit(AuditQuery { session: Some(right.into()), ..AuditQuery::default() }));
            assert!(!hit(AuditQuery { session: Some(wrong.into()), ..AuditQuery::default() }));
        }
        assert!(hit(AuditQuery { service: Some("api.github.com".into()), ..AuditQuery::default() }));
        assert!(!hit(AuditQuery { service: Some("npm".into()), ..AuditQuery::default() }));
        assert!(hit(AuditQuery { method: Some("get".into()), ..AuditQuery::default() }));
        assert!(!hit(AuditQuery { method: Some("POST".into()), ..AuditQuery::default() }));
        assert!(!hit(AuditQuery { denied: true, ..AuditQuery::default() }));
        assert!(!hit(AuditQuery { alarms: true, ..AuditQuery::default() }));
        assert!(!hit(AuditQuery { status: Statuses::parse(">=400").ok(), ..AuditQuery::default() }));
        let at = |text| AuditQuery { since: Some(crate::since::parse(text).unwrap()), ..AuditQuery::default() };
        assert!(hit(at("2026-03-02T12:00:00Z")) && !hit(at("2026-03-02T12:00:01Z")));
    }
}
