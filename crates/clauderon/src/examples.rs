//! What `--help` shows first: commands to copy.

pub(crate) const TOP: &str = "\
Examples:
  clauderon demo                                   see it work: no account, no network
  clauderon run -- git fetch                       run a command without your credentials
  clauderon create --no-agent --name review --access-mode read-only
  eval \"$(clauderon env review)\"                   use that session in this shell
  clauderon audit tail -f                          watch what goes out
";

pub(crate) const MORE: &str = "`clauderon COMMAND --help` shows examples.";

pub(crate) const CONTRACT: &str = "\
`clauderon COMMAND --help` shows examples of each command.

Exit codes:
  0  ok
  1  failure
  2  wrong usage or configuration
  3  no such session
  4  the session's backend failed
  5  the daemon cannot be reached
  `run` and `exec` pass on the exit code of their command: 128 + n when signal n ended it,
  126 when it cannot be executed, 127 when it is not found.

Environment:
  CLAUDERON_HOME       the home directory [default: ~/.clauderon]
  CLAUDERON_BIND_ADDR  the address the daemon listens on
  NO_COLOR             print without colour
";

pub(crate) const DAEMON: &str = "\
Examples:
  clauderon daemon
  GITHUB_TOKEN=ghp_... clauderon daemon            with a credential from the environment
  clauderon daemon --http-port 0                   on a free port, printed at start
";

pub(crate) const CREATE: &str = "\
Examples:
  clauderon create --repo ~/project --prompt \"Review the code\" --access-mode read-only
  clauderon create --name api --repo . --agent codex --prompt \"Fix the failing test\"
  clauderon create --no-agent --name shell --credential github --allow-host api.github.com
  clauderon create --name build -- make test
  clauderon create --repo . --prompt \"Explain the tests\" --print > answer.txt
";

pub(crate) const RUN: &str = "\
Examples:
  clauderon run -- gh pr list
  clauderon run --writable -- npm test             may change the current directory
  clauderon run --backend podman --image node:24 -- npm test
  clauderon run --backend local -- npm test        without any isolation
  clauderon run --access-mode read-only -- npm audit
  clauderon run --writable --agent claude
  clauderon run --credential github --allow-host '*.github.com' -- ./script.sh
";

pub(crate) const LIST: &str = "\
Examples:
  clauderon list
  clauderon list --json | jq -r '.[].name'
";

pub(crate) const ENV: &str = "\
Examples:
  eval \"$(clauderon env review)\"
  clauderon env review --format dotenv > .env.review
  clauderon env review --format json | jq -r .HTTPS_PROXY
";

pub(crate) const EXEC: &str = "\
Examples:
  clauderon exec review -- curl -s https://api.github.com/user
  clauderon exec review -- bash
";

pub(crate) const SET_ACCESS_MODE: &str = "\
Examples:
  clauderon set-access-mode review read-only
  clauderon set-access-mode review read-write
";

pub(crate) const STOP: &str = "\
Examples:
  clauderon stop review
";

pub(crate) const DELETE: &str = "\
Examples:
  clauderon delete review
  clauderon delete review build
";

pub(crate) const ATTACH: &str = "\
Examples:
  clauderon create --name shell -- bash && clauderon attach shell
";

pub(crate) const DIFF: &str = "\
Examples:
  clauderon diff review
";

pub(crate) const FETCH: &str = "\
Examples:
  clauderon fetch review && git log clauderon/review
";

pub(crate) const LOGS: &str = "\
Examples:
  clauderon logs review
  clauderon logs -f review
";

pub(crate) const UNLOCK: &str = "\
Examples:
  clauderon unlock                                 approve once, before agents need the credentials
  clauderon unlock github --again                  after you changed it in 1Password
  clauderon unlock --json | jq -r '.[] | select(.outcome == \"failed\") | .name'

Exits with 1 if any of them cannot be read.
";

pub(crate) const CONFIG: &str = "\
Examples:
  clauderon config credentials                     what is found, where, and what is wrong
  clauderon config init                            write a commented proxy.toml
  clauderon config check                           check it without starting anything
";

pub(crate) const CONFIG_ADD: &str = "\
Examples:
  clauderon config add --list
  clauderon config add linear                      then put the token where it says
  clauderon config add gitlab --host git.example.com
  clauderon config add bitbucket --user ann
";

pub(crate) const CONFIG_CREDENTIALS: &str = "\
Examples:
  clauderon config credentials
  clauderon config credentials --test              really ask 1Password first
  clauderon config credentials --json | jq '.[] | select(.available) | .name'
";

pub(crate) const AUDIT: &str = "\
Examples:
  clauderon audit tail -f
  clauderon audit query --denied --since 1h
  clauderon audit verify
";

pub(crate) const AUDIT_TAIL: &str = "\
Examples:
  clauderon audit tail -n 50
  clauderon audit tail -f --json | jq 'select(.method != \"GET\")'
";

pub(crate) const AUDIT_QUERY: &str = "\
Examples:
  clauderon audit query --session review --status '>=400'
  clauderon audit query --service github --method POST --since 2h
  clauderon audit query --alarms --json
";

pub(crate) const AUDIT_VERIFY: &str = "\
Examples:
  clauderon audit verify && echo intact    # exits with 1 if a line was edited, lost or moved
";

pub(crate) const CA: &str = "\
Examples:
  clauderon ca path
  curl --cacert \"$(clauderon ca path)\" -x http://127.0.0.1:3030 https://api.github.com
  clauderon ca show
";

pub(crate) const EXPLAIN: &str = "\
Examples:
  clauderon explain GET https://api.github.com/user
  clauderon explain POST https://api.github.com/repos/o/r/issues --session review
  clauderon explain POST https://api.github.com/graphql --session review \\
    -H 'Content-Type: application/json' --data '{\"query\":\"{viewer{login}}\"}'
";

pub(crate) const DOCTOR: &str = "\
Examples:
  clauderon doctor                                 exits with 1 if something does not work
  clauderon doctor --json | jq '.[] | select(.result == \"failed\")'
";

pub(crate) const DEMO: &str = "\
Examples:
  clauderon demo
";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  clauderon completions bash > ~/.local/share/bash-completion/completions/clauderon
  clauderon completions zsh > \"${fpath[1]}/_clauderon\"
  clauderon completions fish > ~/.config/fish/completions/clauderon.fish
";
