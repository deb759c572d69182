//! Who may do what: service × operation × mode, as a checked-in table. `UPDATE_MATRIX=1 cargo test -p clauderon-core` rewrites it.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use clauderon_core::access::{AccessMode, OperationClass, ReadException};
use clauderon_core::classify::{Classification, Classified, classify};
use clauderon_core::config::{PolicySettings, ServiceSettings, Settings};
use clauderon_core::denial::{Denial, DenialCode};
use clauderon_core::derived::Derivation;
use clauderon_core::facts::Facts;
use clauderon_core::host::{Authority, HostPattern, Scheme};
use clauderon_core::policy::{Permit, decide, settle};
use clauderon_core::rule::RuleSet;
use clauderon_core::service::{self, Service};
use clauderon_core::session::{Session, SessionId, SessionName};
use http::Request;

#[test]
fn the_matrix_is_as_checked_in() {
    let matrix = matrix();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy_matrix.txt");
    if std::env::var_os("UPDATE_MATRIX").is_some() {
        std::fs::write(&file, &matrix).unwrap();
    }
    let checked_in = std::fs::read_to_string(&file).unwrap();
    assert!(matrix == checked_in, "who may do what has changed; if it should, run with UPDATE_MATRIX=1\n{matrix}");
}

#[test]
fn every_operation_is_in_the_matrix_and_minting_in_the_documentation() {
    let rules = |mints| service::SERVICES.iter().flat_map(|s| s.operations).filter(move |o| o.mints() == mints);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/access-modes.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let matrix = matrix();
    for operation in rules(true) {
        assert!(docs.contains(&format!("`{}`", operation.rule)), "{} is not documented", operation.rule);
    }
    for operation in rules(true).chain(rules(false)) {
        assert!(
            matrix.contains(&format!(" {} ", operation.rule)),
            "nothing in the matrix is decided by {}",
            operation.rule
        );
    }
}

#[test]
fn a_read_only_refusal_says_exactly_this() {
    let denial =
        Rig::new(AccessMode::ReadOnly, PolicySettings::default()).judge("POST https://api.github.com/user/repos");
    let expected = r#"{"error":"Write operations are blocked in read-only mode","method":"POST","host":"api.github.com","session":"review","hint":"clauderon set-access-mode review read-write"}"#;
    let denial = denial.1.unwrap_err();
    assert_eq!(denial.body(), expected);
    assert_eq!((denial.status().as_u16(), denial.rule), (403, Some("method")));
}

#[test]
fn read_only_lets_no_writing_method_out_whatever_the_target() {
    let rig =
        Rig::new(AccessMode::ReadOnly, PolicySettings { read_only_allow: Vec::new(), ..PolicySettings::default() });
    let targets = [
        "https://api.github.com/graphql",
        "https://api.anthropic.com/v1/messages",
        "http://example.com:8080/",
        "https://[::1]/",
        "https://example.com/a//../b",
    ];
    for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PURGE", "PROPFIND", "get", "GETX"] {
        for target in targets {
            let code = rig.judge(&format!("{method} {target}")).1.unwrap_err().code;
            assert_eq!(code, DenialCode::ReadOnly, "{method} {target}");
        }
    }
}

#[test]
fn methods_that_hide_or_echo_are_refused_in_every_mode() {
    let rig = Rig::new(AccessMode::ReadWrite, PolicySettings::default());
    for request in ["TRACE https://example.com/", "CONNECT https://example.com/"] {
        assert_eq!(rig.judge(request).1.unwrap_err().code, DenialCode::MalformedRequest, "{request}");
    }
}

#[test]
fn an_odd_path_is_refused_only_where_a_rule_looks_at_it() {
    let rig = Rig::new(AccessMode::ReadWrite, PolicySettings::default());
    assert_eq!(rig.judge("GET https://github.com/o/r/../x").1.unwrap_err().code, DenialCode::MalformedRequest);
    assert!(rig.judge("GET https://example.com/o//r/../x").1.is_ok());
}

#[test]
fn allow_lists_hold_for_hosts_and_ports() {
    let list = |hosts: &[&str]| Some(hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect::<Vec<_>>());
    let global =
        PolicySettings { allow_hosts: list(&["*.github.com", "example.com:8443"]), ..PolicySettings::default() };
    let mut rig = Rig::new(AccessMode::ReadWrite, global);
    let code = |rig: &Rig, url: &str| rig.judge(&format!("GET {url}")).1.map(|_| ()).map_err(|denial| denial.code);
    assert_eq!(code(&rig, "https://api.github.com/"), Ok(()));
    assert_eq!(code(&rig, "http://api.github.com:8080/"), Ok(()));
    assert_eq!(code(&rig, "https://example.com:8443/"), Ok(()));
    assert_eq!(code(&rig, "https://example.com/"), Err(DenialCode::HostNotAllowed));
    assert_eq!(code(&rig, "https://github.com/"), Err(DenialCode::HostNotAllowed));
    rig.session.allow_hosts = list(&["uploads.github.com"]);
    assert_eq!(code(&rig, "https://api.github.com/"), Err(DenialCode::HostNotAllowed));
    assert_eq!(code(&rig, "https://uploads.github.com/"), Ok(()));
    rig.session.allow_hosts = list(&[]);
    assert_eq!(code(&rig, "https://uploads.github.com/"), Err(DenialCode::HostNotAllowed));
}

#[test]
fn what_grafanas_settings_close_is_closed() {
    let closing = |key: &str| {
        let toml = format!("[services.grafana]\nurl = \"https://graf.example.com/g\"\n{key} = false");
        Settings::parse(&toml, Path::new("/h/.c"), Path::new("/h")).unwrap().policy
    };
    let code = |mode, settings: &PolicySettings, request: &str| {
        let judged = Rig::new(mode, settings.clone()).judge(request).1;
        judged.map(|_| ()).map_err(|denial| (denial.code, denial.hint.unwrap_or_default()))
    };
    let (query, proxied) =
        ("POST https://graf.example.com/g/api/ds/query", "https://graf.example.com/g/api/datasources/proxy/7");
    let (sql, proxy) = (closing("sql_query"), closing("datasource_proxy"));
    let off = |key: &str| {
        Err((DenialCode::SwitchedOff, format!("set `{key} = true` under [services.grafana] in proxy.toml")))
    };
    assert_eq!(code(AccessMode::ReadOnly, &sql, query), off("sql_query"));
    assert_eq!(code(AccessMode::ReadWrite, &sql, query), Ok(()));
    assert_eq!(code(AccessMode::ReadOnly, &sql, &format!("GET {proxied}/api/v1/query")), Ok(()));
    for request in [format!("GET {proxied}/api/v1/query"), format!("POST {proxied}/api/v1/query")] {
        assert_eq!(code(AccessMode::ReadOnly, &proxy, &request), off("datasource_proxy"), "{request}");
    }
    for path in ["/api/v1/query", "/x", "", "/%61pi/v1/admin", "//api", "/x x-http-method-override:GET"] {
        let request = format!("DELETE {proxied}{path}");
        assert_eq!(code(AccessMode::ReadWrite, &proxy, &request), off("datasource_proxy"), "{request}");
    }
    assert_eq!(code(AccessMode::ReadOnly, &proxy, query), Ok(()));
}

#[test]
fn overriding_the_method_makes_a_write() {
    let rig = Rig::new(AccessMode::ReadOnly, PolicySettings::default());
    for header in ["X-HTTP-Method-Override", "x-method-override", "X-HTTP-METHOD"] {
        let (classified, result) = rig.judge(&format!("GET https://example.com/ {header}:DELETE"));
        assert_eq!(result.unwrap_err().code, DenialCode::ReadOnly);
        assert_eq!(classified.rule, header.to_ascii_lowercase());
    }
}

struct Rig {
    rules: RuleSet,
    session: Session,
    settings: PolicySettings,
}

impl Rig {
    fn new(mode: AccessMode, settings: PolicySettings) -> Self {
        let session = Session {
            id: SessionId::parse("7f3a9c21").unwrap(),
            name: SessionName::parse("review").unwrap(),
            mode,
            credentials: None,
            allow_hosts: None,
        };
        Self { rules: RuleSet::new(service::rules(&all_services())), session, settings }
    }

    /// Judges `METHOD URL [field:value…] [<<< body]`; the pseudo-field `upgrade` asks for a WebSocket.
    fn judge(&self, request: &str) -> (Classified, Result<Permit, Denial>) {
        self.read(request, |facts, body| {
            let classified = match settle(classify(facts, &self.rules), &self.session, &self.settings) {
                Classification::Known(classified) => classified,
                Classification::NeedsBody(rule) => {
                    body.map_or_else(|| rule.unread(), |body| rule.classify(facts, body.as_bytes()))
                }
            };
            (classified, decide(facts, classified, &self.session, &self.rules, &self.settings))
        })
    }

    /// What the answer holds, whether or not the request may go out.
    fn derivation(&self, request: &str) -> Option<&'static Derivation> {
        self.read(request, |facts, _| service::derivation(facts, &self.rules))
    }

    fn read<T>(&self, request: &str, with: impl FnOnce(&Facts<'_>, Option<&str>) -> T) -> T {
        let (request, body) = request.split_once(" <<< ").map_or((request, None), |(head, body)| (head, Some(body)));
        let mut words = request.split(' ');
        let (method, url) = (words.next().unwrap(), words.next().unwrap());
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, target) = rest.split_at(rest.find('/').unwrap());
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        let origin = Authority::parse(authority).unwrap().origin(scheme);
        let mut builder = Request::builder().method(method).uri(target);
        for (name, value) in words.clone().filter_map(|word| word.split_once(':')) {
            builder = builder.header(name, value);
        }
        let parts = builder.body(()).unwrap().into_parts().0;
        let facts = Facts::of(&parts, &origin, words.any(|word| word == "upgrade"));
        with(&facts, body)
    }

    fn class(&self, class: OperationClass) -> Result<Permit, Denial> {
        let parts = Request::get("/").body(()).unwrap().into_parts().0;
        let origin = Authority::parse("example.com").unwrap().origin(Scheme::Https);
        let classified = Classified { class, rule: "example.operation", narrowing: None };
        decide(&Facts::of(&parts, &origin, false), classified, &self.session, &self.rules, &self.settings)
    }
}

fn all_services() -> Settings {
    let hosts =
        |host: &str| ServiceSettings { hosts: vec![HostPattern::parse(host).unwrap()], ..ServiceSettings::default() };
    let mut settings = Settings::defaults(Path::new("/home/u/.clauderon"));
    settings.services = BTreeMap::from([
        ("github".into(), hosts("ghes.example.com")),
        ("sentry".into(), ServiceSettings { path_prefix: Some("/s".into()), ..hosts("sentry.example.com") }),
        (
            "grafana".into(),
            ServiceSettings { url: Some("https://graf.example.com/g".into()), ..ServiceSettings::default() },
        ),
        (
            "npm".into(),
            ServiceSettings { registries: vec!["https://reg.example.com/".into()], ..ServiceSettings::default() },
        ),
    ]);
    settings
}

fn matrix() -> String {
    let none = || PolicySettings { read_only_allow: Vec::new(), ..PolicySettings::default() };
    let open = PolicySettings { allow_minting: vec!["example.operation".into()], ..PolicySettings::default() };
    let rigs = [
        Rig::new(AccessMode::ReadOnly, none()),
        Rig::new(AccessMode::ReadOnly, PolicySettings::default()),
        Rig::new(AccessMode::ReadWrite, PolicySettings::default()),
    ];
    let mut text = format!("{:<12}{:<12}{:<12}{:<24}operation\n", "plain r-o", "read-only", "read-write", "by");
    for request in OPERATIONS {
        if let Some(title) = request.strip_prefix("# ") {
            writeln!(text, "\n[{title}]").unwrap();
            continue;
        }
        let cells = rigs.each_ref().map(|rig| verdict(&rig.judge(request).1));
        row(&mut text, &cells, rigs[1].judge(request).0.rule, request);
    }
    writeln!(text, "\n[every row of every service]").unwrap();
    for request in examples() {
        let cells = rigs.each_ref().map(|rig| verdict(&rig.judge(&request).1));
        row(&mut text, &cells, rigs[1].judge(&request).0.rule, &request);
    }
    writeln!(text, "\n[answers that hold tokens]").unwrap();
    for request in OPERATIONS.iter().filter(|request| !request.starts_with("# ")) {
        let Some(derivation) = rigs[2].derivation(request) else { continue };
        let members: Vec<&str> = derivation.tokens.iter().map(|token| token.member).collect();
        writeln!(text, "{:<12}{:<52}{request}", derivation.kind, members.join(" ")).unwrap();
    }
    writeln!(text, "\n[every class]").unwrap();
    for class in classes() {
        row(&mut text, &rigs.each_ref().map(|rig| verdict(&rig.class(class))), "", &format!("{class:?}"));
    }
    let opened =
        [AccessMode::ReadOnly, AccessMode::ReadOnly, AccessMode::ReadWrite].map(|mode| Rig::new(mode, open.clone()));
    row(
        &mut text,
        &opened.each_ref().map(|rig| verdict(&rig.class(OperationClass::Mint))),
        "",
        "Mint, opened by `allow_minting`",
    );
    text
}

/// A request for each method and each alternative of each row, so that none can be forgotten above.
fn examples() -> Vec<String> {
    let of_service = |(service, base): (&Service, &str)| -> Vec<String> {
        let base = base.to_owned();
        service.operations.iter().flat_map(|operation| examples_of(&operation.to_string(), &base)).collect()
    };
    let bases = service::SERVICES.iter().map(|service| {
        let base = SITES.iter().find(|(name, _)| *name == service.name()).map(|(_, base)| *base);
        (service, base.unwrap_or_default())
    });
    bases.flat_map(of_service).collect()
}

/// Those of one row, as it is written: `METHODS HOST/PATTERN[ upgrade]`.
fn examples_of(operation: &str, base: &str) -> Vec<String> {
    let (row, upgrade) = operation.strip_suffix(" upgrade").map_or((operation, ""), |row| (row, " upgrade"));
    let (methods, place) = row.rsplit_once(' ').unwrap();
    let (host, pattern) = place.split_once('/').unwrap();
    let base = if host.is_empty() { base } else { host };
    let methods: Vec<&str> = if methods == "*" { vec!["GET", "POST"] } else { methods.split(' ').collect() };
    let methods = methods.into_iter().filter(|method| *method != "CONNECT");
    let url = |method: &str, path: &String| format!("{method} https://{base}{path}{upgrade}");
    methods.flat_map(|method| paths(pattern).iter().map(|path| url(method, path)).collect::<Vec<_>>()).collect()
}

/// The paths that a pattern's alternatives make, with `x` for what is free; `**` stands for nothing unless it is all there is.
fn paths(pattern: &str) -> Vec<String> {
    let pattern = if pattern == "**" { "*" } else { pattern };
    let segments = pattern.split('/').filter(|segment| *segment != "**");
    segments.fold(vec![String::new()], |paths, segment| {
        let longer = |path: &String| -> Vec<String> {
            segment.split('|').map(|one| format!("{path}/{}", one.replace('*', "x"))).collect()
        };
        paths.iter().flat_map(longer).collect()
    })
}

fn classes() -> impl Iterator<Item = OperationClass> {
    let plain = [OperationClass::Read, OperationClass::Write, OperationClass::Mint];
    plain.into_iter().chain(ReadException::ALL.map(OperationClass::Excepted))
}

fn row(text: &mut String, cells: &[&str; 3], by: &str, operation: &str) {
    writeln!(text, "{:<12}{:<12}{:<12}{by:<24}{operation}", cells[0], cells[1], cells[2]).unwrap();
}

fn verdict(result: &Result<Permit, Denial>) -> &'static str {
    match result {
        Ok(_) => "yes",
        Err(denial) => denial.code.as_str(),
    }
}

/// Where each service's rows lie, unless they name a host.
const SITES: [(&str, &str); 9] = [
    ("github", "api.github.com"),
    ("anthropic", "api.anthropic.com"),
    ("openai", "api.openai.com"),
    ("pagerduty", "api.pagerduty.com"),
    ("sentry", "sentry.io"),
    ("grafana", "graf.example.com/g"),
    ("npm", "reg.example.com"),
    ("chatgpt", "chatgpt.com"),
    ("gemini", "generativelanguage.googleapis.com"),
];

const OPERATIONS: &[&str] = &[
    "# any host",
    "GET https://example.com/",
    "HEAD https://example.com/",
    "OPTIONS http://example.com/",
    "POST https://example.com/",
    "DELETE http://example.com:8080/",
    "PROPFIND https://example.com/",
    "GET https://example.com/chat upgrade",
    "GET https://example.com/ x-http-method-override:DELETE",
    "GET https://example.com/ x-method-override:PUT",
    "HEAD https://example.com/ x-http-method:PATCH",
    "GET https://api.github.com/user/keys x-http-method-override:POST",
    "POST https://api.anthropic.com/v1/messages x-http-method-override:DELETE",
    "GET https://example.com/graphql?query={viewer{login}}",
    "GET https://example.com/graphql?query=mutation{x}",
    "GET https://example.com/graphql?query=%6Dutation{x}",
    "GET https://example.com/graphql?query=subscription{x}",
    "GET https://api.github.com/graphql?query=mutation{x}",
    "GET https://example.com/api/GraphQL/?query=mutation{x}",
    "GET https://example.com/v1-graphql?a=1&query=mutation%20q{x}",
    "HEAD https://example.com/graphql?query=mutation{x}",
    "GET https://example.com/graphql?query=%5Cu006dutation{x}",
    "# git, on any host",
    "GET https://example.com/o/r.git/info/refs?service=git-upload-pack",
    "POST https://example.com/o/r.git/git-upload-pack content-type:application/x-git-upload-pack-request",
    "POST https://example.com/o/r.git/git-upload-pack",
    "POST https://example.com/o/r.git/git-upload-pack content-type:application/json",
    "POST https://example.com/o/../git-upload-pack content-type:application/x-git-upload-pack-request",
    "GET https://example.com/o/r.git/info/refs?service=git-receive-pack",
    "GET https://example.com/o/r.git/info/refs?a=b&service=git%2Dreceive-pack",
    "GET https://example.com/o/r.git/%69nfo/refs?%73ervice=git-receive-pack",
    "GET https://example.com/o/r.git/./info/refs?service=git-receive-pack",
    "POST https://example.com/o/r.git/git-receive-pack content-type:application/x-git-receive-pack-request",
    "# github",
    "GET https://api.github.com/user",
    "POST https://api.github.com/repos/o/r/issues",
    "POST https://api.github.com/graphql",
    "POST https://api.github.com/graphql content-type:application/json",
    "POST https://api.github.com/graphql content-type:application/json;charset=utf-8 <<< {\"query\":\"query{viewer{login}}\"}",
    "POST https://ghes.example.com/api/graphql content-type:application/json <<< {\"query\":\"{viewer{login}}\"}",
    "POST https://example.com/graphql content-type:application/json <<< {\"query\":\"{viewer{login}}\"}",
    "POST https://api.github.com/graphql content-type:application/json <<< {\"query\":\"mutation{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json <<< [{\"query\":\"{viewer{login}}\"}]",
    "POST https://api.github.com/graphql content-type:application/json;charset=utf-16 <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql content-type:application/graphql <<< {x}",
    "POST https://api.github.com/graphql <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json content-encoding:gzip <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json content-length:1048577 <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json content-length:1048576 <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json;charset=iso-8859-1 <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json content-type:text/plain <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json <<< \u{feff}{\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json <<< {\"query\":\"query a{x} mutation b{x}\",\"operationName\":\"a\"}",
    "POST https://api.github.com/graphql content-type:application/json <<< {\"query\":\"subscription{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json <<< {\"query\":\"{x}\",\"Query\":\"mutation{x}\"}",
    "POST https://api.github.com/graphql content-type:application/json <<< {\"extensions\":{\"persistedQuery\":{}}}",
    "PUT https://api.github.com/graphql content-type:application/json <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com:8443/graphql content-type:application/json <<< {\"query\":\"{x}\"}",
    "POST https://ghes.example.com/graphql content-type:application/json <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/graphql?query=mutation{x} content-type:application/json <<< {\"query\":\"{x}\"}",
    "POST https://api.github.com/markdown",
    "POST https://api.github.com/markdown/raw",
    "POST https://ghes.example.com/api/v3/markdown",
    "POST https://api.github.com/%6Darkdown",
    "POST https://api.github.com/repos/o/r/releases/generate-notes",
    "POST https://api.github.com/repos/o/r/releases",
    "GET https://api.githubcopilot.com/mcp/",
    "POST https://api.githubcopilot.com/mcp/",
    "DELETE https://api.githubcopilot.com/mcp/",
    "GET https://ghcr.io/token?scope=repository:o/r:pull",
    "GET https://ghcr.io/token?scope=repository:o/r:pull,push",
    "GET https://ghcr.io/token?scope=repository:o/r:push",
    "PUT https://ghcr.io/v2/o/r/manifests/latest",
    "POST https://github.com/o/r/git-upload-pack content-type:application/x-git-upload-pack-request",
    "GET https://gist.github.com/1234.git/info/refs?service=git-receive-pack",
    "POST https://gist.github.com/1234.git/git-receive-pack content-type:application/x-git-receive-pack-request",
    "POST https://uploads.github.com/repos/o/r/releases/1/assets?name=a",
    "GET https://github.com/o/r/info/refs?service=git-receive-pack",
    "POST https://github.com/o/r.git/info/lfs/objects/batch",
    "POST https://github.com/o/r.git/info/lfs/objects/batch content-type:application/vnd.git-lfs+json <<< {\"operation\":\"download\"}",
    "POST https://example.com/r/info/lfs/objects/batch content-type:application/vnd.git-lfs+json <<< {\"operation\":\"download\"}",
    "POST https://github.com/o/r.git/info/lfs/objects/batch content-type:application/vnd.git-lfs+json <<< {\"operation\":\"upload\"}",
    "POST https://github.com/o/r.git/info/lfs/objects/batch content-type:application/vnd.git-lfs+json <<< {\"operation\":\"download\",\"operation\":\"upload\"}",
    "POST https://github.com/o/r.git/info/lfs/locks content-type:application/vnd.git-lfs+json",
    "POST https://github.com/o/r.git/info/lfs/locks/verify content-type:application/vnd.git-lfs+json",
    "POST https://github.com/o/r.git/info/lfs/verify content-type:application/vnd.git-lfs+json",
    "POST https://api.github.com/repos/o/r/actions/runners/registration-token",
    "POST https://api.github.com/orgs/o/actions/runners/generate-jitconfig",
    "POST https://ghes.example.com/api/v3/repos/o/r/actions/runners/remove-token",
    "POST https://api.github.com/repos/o/r/actions/runners/%72egistration-token",
    "POST https://api.github.com/app/installations/1/access_tokens",
    "POST https://api.github.com/app-manifests/c/conversions",
    "POST https://api.github.com/user/keys",
    "POST https://api.github.com/User/Keys/",
    "PUT https://api.github.com/user/keys x-http-method-override:POST",
    "DELETE https://api.github.com/user/keys/1",
    "GET https://api.github.com/user/keys",
    "POST https://api.github.com/user/gpg_keys",
    "POST https://api.github.com/repos/o/r/keys",
    "POST https://api.github.com/user/codespaces",
    "POST https://api.github.com/repos/o/codespaces/issues",
    "POST https://api.github.com/applications/c/token",
    "PATCH https://api.github.com/applications/c/token",
    "PUT https://api.github.com/repos/o/r/actions/secrets/NAME",
    "PUT https://api.github.com/repos/o/r/environments/e/secrets/NAME",
    "PUT https://api.github.com/repos/o/r/contents/actions/secrets/x",
    "POST https://api.github.com/repos/o/r/hooks",
    "PATCH https://api.github.com/repos/o/r/hooks/1",
    "PATCH https://api.github.com/repos/o/hooks/issues/1",
    "PUT https://api.github.com/repos/o/r/collaborators/u",
    "GET https://api.github.com/copilot_internal/v2/token",
    "POST https://api.github.com/copilot_internal/v2/token",
    "POST https://api.githubcopilot.com/chat/completions",
    "PUT https://api.github.com/repositories/1/environments/e/secrets/NAME",
    "PUT https://api.github.com/orgs/o/actions/secrets/NAME/repositories",
    "PUT https://api.github.com/orgs/o/outside_collaborators/u",
    "POST https://api.github.com/orgs/o/hooks",
    "PATCH https://api.github.com/orgs/o/hooks/1/config",
    "POST https://ghes.example.com/api/v3/admin/hooks",
    "POST https://ghes.example.com/api/v3/admin/users/u/authorizations",
    "POST https://ghes.example.com/api/v3/admin/users/u/keys",
    "POST https://api.github.com/authorizations",
    "POST https://api.github.com/orgs/o/personal-access-token-requests/1",
    "POST https://api.github.com/repos/o/r/codespaces",
    "POST https://api.github.com/repos/o/r/pulls/1/codespaces",
    "PUT https://api.github.com/orgs/o/codespaces/access",
    "POST https://api.github.com/orgs/o/members/u/codespaces/c/stop",
    "POST https://github.com/login/oauth/access_token",
    "POST https://github.com/login/device/code",
    "POST https://ghes.example.com/login/oauth/access_token",
    "POST https://api.github.com/enterprises/e/actions/runners/registration-token",
    "PUT https://ghes.example.com/api/v3/user/starred/o/r",
    "# anthropic",
    "POST https://api.anthropic.com/v1/messages",
    "POST https://api.anthropic.com/v1/messages?beta=true",
    "POST https://api.anthropic.com/v1/messages/count_tokens",
    "POST https://api.anthropic.com/api/event_logging/batch",
    "POST https://api.anthropic.com/v1/messages/batches",
    "POST https://api.anthropic.com/v1/files",
    "DELETE https://api.anthropic.com/v1/files/f",
    "POST https://api.anthropic.com/v1/messages/batches/b/cancel",
    "POST https://api.anthropic.com/v1/sessions",
    "POST https://api.anthropic.com/v1/sessions/s/events",
    "POST https://api.anthropic.com/v1/skills",
    "DELETE https://api.anthropic.com/v1/skills/s",
    "POST https://api.anthropic.com/v1/organizations/invites",
    "DELETE https://api.anthropic.com/v1/organizations/users/u",
    "POST https://api.anthropic.com/v1/complete",
    "POST https://api.anthropic.com/v1/messages/",
    "POST https://api.anthropic.com/v1/%6Dessages",
    "POST https://api.anthropic.com/api/claude_cli/settings",
    "POST https://mcp-proxy.anthropic.com/v1/mcp/s",
    "POST https://api.anthropic.com/api/oauth/claude_cli/create_api_key",
    "POST https://api.anthropic.com/v1/organizations/api_keys/k",
    "POST https://api.anthropic.com/v1/oauth/token content-type:application/json <<< {\"grant_type\":\"refresh_token\",\"refresh_token\":\"sk-ant-ort01-clauderon-placeholder-7f3a9c21-000000\"}",
    "POST https://platform.claude.com/v1/oauth/token content-type:application/x-www-form-urlencoded <<< grant_type=refresh_token&refresh_token=sk-ant-ort01-clauderon-placeholder-7f3a9c21-000000",
    "POST https://platform.claude.com/v1/oauth/token content-type:application/json <<< {\"grant_type\":\"refresh_token\",\"refresh_token\":\"sk-ant-ort01-x\"}",
    "POST https://platform.claude.com/v1/oauth/token content-type:application/json <<< {\"grant_type\":\"authorization_code\",\"code\":\"c\"}",
    "POST https://platform.claude.com/v1/oauth/token content-type:application/json content-encoding:gzip <<< x",
    "POST https://platform.claude.com/v1/oauth/token content-type:application/json content-length:1048577 <<< x",
    "POST https://platform.claude.com/v1/oauth/token content-type:text/plain <<< x",
    "POST https://platform.claude.com/V1/oauth/token/ content-type:application/json <<< {\"grant_type\":\"refresh_token\",\"refresh_token\":\"sk-ant-ort01-clauderon-placeholder-7f3a9c21-000000\"}",
    "POST https://console.anthropic.com/v1/oauth/revoke content-type:application/json <<< {\"token\":\"sk-ant-oat01-clauderon-placeholder-7f3a9c21-000000\"}",
    "POST https://console.anthropic.com/v1/oauth/revoke content-type:application/json <<< {\"token\":\"sk-ant-oat01-x\"}",
    "GET https://platform.claude.com/v1/oauth/authorize",
    "POST http://api.anthropic.com/v1/messages",
    "POST https://api.anthropic.com:8443/v1/messages",
    "POST https://example.com/v1/messages",
    "# openai",
    "POST https://api.openai.com/v1/responses",
    "GET https://api.openai.com/v1/responses upgrade",
    "GET https://api.openai.com/v1/realtime?model=x upgrade",
    "POST https://api.openai.com/v1/chat/completions",
    "POST https://api.openai.com/v1/responses/r1/cancel",
    "POST https://api.openai.com/v1/files",
    "POST https://api.openai.com/v1/fine_tuning/jobs",
    "POST https://api.openai.com/v1/batches",
    "POST https://api.openai.com/v1/assistants",
    "DELETE https://api.openai.com/v1/assistants/a",
    "POST https://api.openai.com/v1/threads/t/runs",
    "POST https://api.openai.com/v1/vector_stores",
    "POST https://api.openai.com/v1/vector_stores/v/files",
    "POST https://api.openai.com/v1/images/generations",
    "GET https://api.openai.com/v1/files/f/content",
    "GET https://api.openai.com/v1/assistants upgrade",
    "DELETE https://api.openai.com/v1/responses",
    "POST https://api.openai.com/v1/organization/projects/p/service_accounts",
    "POST https://api.openai.com/v1/organization/admin_api_keys",
    "POST https://api.openai.com/v1/realtime/client_secrets",
    "POST https://api.openai.com/v1/realtime/sessions",
    "POST https://api.openai.com/v1/Realtime/transcription_sessions/",
    "POST https://api.openai.com/v1/chatkit/sessions",
    "# chatgpt",
    "POST https://auth.openai.com/oauth/token content-type:application/json <<< {\"client_id\":\"c\",\"grant_type\":\"refresh_token\",\"refresh_token\":\"rt_clauderon-placeholder-7f3a9c21-000000\"}",
    "POST https://auth.openai.com/oauth/token content-type:application/x-www-form-urlencoded <<< grant_type=refresh_token&refresh_token=rt_clauderon-placeholder-7f3a9c21-000000",
    "POST https://auth.openai.com/oauth/token content-type:application/json <<< {\"grant_type\":\"refresh_token\",\"refresh_token\":\"rt_x\"}",
    "POST https://auth.openai.com/oauth/token content-type:application/x-www-form-urlencoded <<< grant_type=authorization_code&code=c",
    "POST https://auth.openai.com/oauth/revoke content-type:application/json <<< {\"token\":\"rt_clauderon-placeholder-7f3a9c21-000000\"}",
    "POST https://auth.openai.com/oauth/revoke content-type:application/json <<< {\"token\":\"rt_x\"}",
    "POST https://auth.openai.com/api/accounts/deviceauth/usercode",
    "GET https://auth.openai.com/api/accounts/v1/user-auth-credential/whoami",
    "POST https://chatgpt.com/backend-api/codex/responses",
    "GET https://chatgpt.com/backend-api/codex/responses upgrade",
    "GET https://chatgpt.com/backend-api/wham/usage",
    "POST https://chatgpt.com/backend-api/wham/tasks",
    "POST https://chatgpt.com/backend-api/wham/tasks/t/turns",
    "POST https://chatgpt.com/backend-api/conversation",
    "POST https://chatgpt.com/backend-api/codex/tasks",
    "GET https://chatgpt.com/backend-api/wham/remote/control/server upgrade",
    "# gemini",
    "POST https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent",
    "POST https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
    "POST https://generativelanguage.googleapis.com/v1beta/tunedModels/t:countTokens",
    "POST https://generativelanguage.googleapis.com/v1beta/models/m:batchGenerateContent",
    "POST https://generativelanguage.googleapis.com/v1beta/models/m:predictLongRunning",
    "POST https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    "POST https://generativelanguage.googleapis.com/v1beta/openai/embeddings",
    "GET https://generativelanguage.googleapis.com/v1beta/models",
    "POST https://generativelanguage.googleapis.com/v1beta/cachedContents",
    "POST https://generativelanguage.googleapis.com/upload/v1beta/files",
    "GET https://generativelanguage.googleapis.com/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent upgrade",
    "POST https://generativelanguage.googleapis.com/v1alpha/auth_tokens",
    "# pagerduty",
    "GET https://api.pagerduty.com/incidents",
    "PUT https://api.pagerduty.com/incidents",
    "POST https://api.pagerduty.com/analytics/metrics/incidents/all",
    "POST https://api.pagerduty.com/analytics/raw/incidents",
    "POST https://api.pagerduty.com/schedules/preview",
    "POST https://api.pagerduty.com/webhook_subscriptions",
    "POST https://api.pagerduty.com/services/s/integrations",
    "GET https://api.pagerduty.com/services/s/integrations/i",
    "POST https://api.pagerduty.com/event_orchestrations/e/integrations",
    "GET https://api.pagerduty.com/services/s",
    "GET https://api.pagerduty.com/services?include%5B%5D=integrations",
    "GET https://api.pagerduty.com/services/s?include[]=%69ntegrations",
    "GET https://api.pagerduty.com/event_orchestrations/e/integrations/i",
    "POST https://identity.pagerduty.com/oauth/token",
    "POST https://events.pagerduty.com/v2/enqueue",
    "GET https://events.eu.pagerduty.com/generic",
    "POST https://events.pagerduty.com/v2/change/enqueue",
    "POST https://events.pagerduty.com/generic/2010-04-15/create_event.json",
    "POST https://api.pagerduty.com/incidents/i/snooze",
    "POST https://mcp.pagerduty.com/mcp content-type:application/json <<< {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}",
    "POST https://mcp.pagerduty.com/mcp content-type:application/json <<< {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}",
    "POST https://mcp.pagerduty.com/mcp content-type:application/json <<< [{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]",
    "# sentry",
    "GET https://sentry.io/api/0/projects/",
    "POST https://sentry.io/api/0/organizations/o/releases/",
    "POST https://sentry.io/api/0/organizations/o/issues/1/autofix/",
    "PUT https://sentry.io/api/0/organizations/o/issues/1/",
    "GET https://sentry.io/api/0/organizations/o/chunk-upload/",
    "POST https://sentry.io/api/0/organizations/o/chunk-upload/",
    "POST https://sentry.io/api/0/organizations/o/artifactbundle/assemble/",
    "POST https://o1.ingest.sentry.io/api/1/envelope/",
    "POST https://sentry.io/api/0/api-tokens/",
    "POST https://us.sentry.io/api/0/organizations/o/org-auth-tokens/",
    "POST https://sentry.io/api/0/sentry-apps/a/api-tokens/",
    "POST https://sentry.io/oauth/token/",
    "POST https://sentry.io/api/0/sentry-apps/",
    "POST https://sentry.example.com/s/api/0/sentry-apps/",
    "POST https://sentry.io/api/0/api-applications/",
    "POST https://sentry.io/api/0/sentry-apps/a/rotate-secret/",
    "POST https://sentry.io/api/0/sentry-app-installations/i/authorizations/",
    "POST https://sentry.io/api/0/projects/o/p/keys/",
    "# grafana",
    "GET https://graf.example.com/g/api/search",
    "POST https://graf.example.com/g/api/dashboards/db",
    "GET https://graf.example.com/g/api/dashboards/uid/logout-panel",
    "GET https://graf.example.com/g/api/datasources/proxy/uid/p1/api/v1/query?query=up",
    "GET https://graf.example.com/g/api/datasources/proxy/7/api/v1/admin/tsdb",
    "GET https://graf.example.com/g/api/snapshots-delete/k",
    "GET https://graf.example.com/g/api/snapshots%2Ddelete/k",
    "GET https://graf.example.com/g/logout",
    "POST https://graf.example.com/g/api/ds/query",
    "POST https://graf.example.com/api/ds/query",
    "POST https://graf.example.com/g/apis/query.grafana.app/v0alpha1/namespaces/default/query",
    "POST https://graf.example.com/g/api/datasources/proxy/7/api/v1/query_range",
    "POST https://graf.example.com/g/api/datasources/proxy/uid/p1/loki/api/v1/query",
    "POST https://graf.example.com/g/api/datasources/proxy/uid/p1/_msearch",
    "POST https://graf.example.com/g/api/datasources/proxy/7/api/ds/query",
    "POST https://graf.example.com/g/api/datasources/proxy/7/api/v1/admin/tsdb/delete_series",
    "POST https://graf.example.com/g/api/dashboards/calculate-diff",
    "POST https://graf.example.com/g/api/public/dashboards/t/panels/1/query",
    "POST https://graf.example.com/g/api/alertmanager/grafana/config/api/v1/receivers/test",
    "POST https://graf.example.com/g/api/v1/rule/test/grafana",
    "GET https://graf.example.com/g/render/d-solo/x",
    "GET https://graf.example.com/g/logout/saml",
    "POST https://graf.example.com/g/api/user/auth-tokens/rotate",
    "POST https://graf.example.com/g/api/serviceaccounts/1/tokens",
    "POST https://graf.example.com/g/api/auth/keys",
    "POST https://graf.example.com/g/api/cloudmigration/token",
    "POST https://graf.example.com/g/api/v1/accesspolicies",
    "POST https://graf.example.com/g/api/orgs/o/api-keys",
    "POST https://graf.example.com/g/apis/iam.grafana.app/v0/namespaces/default/serviceaccounts/s/tokens",
    "POST https://graf.example.com/g/api/tsdb/query",
    "GET https://graf.example.com/g/api/datasources/proxy/7/loki/api/v1/query",
    "GET https://graf.example.com/g/api/datasources/proxy/7/_search",
    "GET https://graf.example.com/g/api/datasources/proxy/uid/p1/_search",
    "GET https://graf.example.com/g/api/user/auth-tokens/rotate",
    "GET https://graf.example.com/g/api/licensing/token",
    "GET https://graf.example.com/g/api/v1/provisioning/contact-points",
    "GET https://graf.example.com/g/api/v1/provisioning/contact-points?decrypt=false",
    "GET https://graf.example.com/g/api/v1/provisioning/contact-points?decrypt=true",
    "GET https://graf.example.com/g/api/v1/provisioning/contact-points/export?download=1&%64ecrypt=1",
    "# npm",
    "GET https://reg.example.com/@s%2fp",
    "PUT https://reg.example.com/@s%2fp",
    "POST https://reg.example.com/-/npm/v1/security/advisories/bulk",
    "POST https://reg.example.com/-/npm/v1/security/audits",
    "POST https://reg.example.com/-/npm/v1/security/audits/quick",
    "POST https://example.com/-/npm/v1/security/audits",
    "POST https://reg.example.com/-/npm/v1/tokens",
    "GET https://reg.example.com/-/npm/v1/tokens",
    "PUT https://reg.example.com/-/user/org.couchdb.user:me",
    "PUT https://reg.example.com/-/user/org.couchdb.user%3Ame/-rev/1",
    "POST https://reg.example.com/-/v1/login",
    "GET https://reg.example.com/-/v1/done?authId=1",
    "POST https://reg.example.com/-/npm/v1/oidc/token/exchange/package/p",
    "DELETE https://reg.example.com/-/user/token/npm_clauderon_placeholder_7f3a9c21000000",
    "DELETE https://reg.example.com/-/user/token/t",
    "PUT https://reg.example.com/-/package/p/dist-tags/latest",
    "DELETE https://reg.example.com/-/package/p/dist-tags/latest",
    "POST https://reg.example.com/-/package/p/access",
    "PUT https://reg.example.com/-/package/p/collaborators/u",
    "POST https://reg.example.com/-/package/p/trust",
    "PUT https://reg.example.com/-/team/o/t/user",
    "PUT https://reg.example.com/-/org/o/user",
    "POST https://reg.example.com/-/npm/v1/hooks/hook",
    "POST https://reg.example.com/-/npm/v1/user",
    "DELETE https://reg.example.com/-/npm/v1/tokens/token/t",
    "DELETE https://reg.example.com/p/-/p-1.0.0.tgz/-rev/1",
    "# docker",
    "GET https://auth.docker.io/token?service=registry.docker.io",
    "GET https://auth.docker.io/token?service=registry.docker.io&scope=repository:o/r:pull,push",
    "GET https://auth.docker.io/token?service=registry.docker.io&scope=repository:o/r:push",
    "GET https://auth.docker.io/token?service=registry.docker.io;scope=repository:o/r:push",
    "POST https://auth.docker.io/token content-type:application/x-www-form-urlencoded",
    "POST https://auth.docker.io/token content-type:application/x-www-form-urlencoded <<< grant_type=password&scope=repository:o/r:pull,push",
    "POST https://auth.docker.io/token content-type:application/x-www-form-urlencoded <<< grant_type=password&scope=repository:o/r:push",
    "POST https://auth.docker.io/token content-type:application/x-www-form-urlencoded <<< grant_type=client_credentials",
    "POST https://auth.docker.io/token?scope=repository:o/r:push content-type:application/x-www-form-urlencoded <<< grant_type=password",
    "POST https://auth.docker.io/token content-type:application/json <<< {}",
    "POST https://hub.docker.com/v2/users/login",
    "POST https://hub.docker.com/v2/users/login/",
    "POST https://hub.docker.com/v2/users/2fa-login",
    "POST https://hub.docker.com/v2/auth/token",
    "POST https://hub.docker.com/v2/access-tokens",
    "POST https://hub.docker.com/v2/api_tokens",
    "PATCH https://hub.docker.com/v2/access-tokens/u",
    "POST https://hub.docker.com/v2/orgs/o/access-tokens",
    "POST https://login.docker.com/oauth/device/code",
    "POST https://hub.docker.com/v2/repositories/",
    "POST https://registry-1.docker.io/v2/o/r/blobs/uploads/",
    "PUT https://registry-1.docker.io/v2/o/r/manifests/latest",
    "GET https://index.docker.io/v2/o/r/manifests/latest",
    "GET https://login.docker.com/oauth/authorize",
];
