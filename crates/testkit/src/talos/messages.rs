//! As much of Talos' messages as the tests speak.

/// What a call that needs nothing says.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// Which node an answer is from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    /// The node.
    #[prost(string, tag = "1")]
    pub hostname: String,
}

/// `common.Data`: a piece of a log or a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Data {
    /// Which node it is from.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// The piece.
    #[prost(bytes = "vec", tag = "2")]
    pub bytes: Vec<u8>,
}

/// `machine.LogsRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LogsRequest {
    /// Whose log.
    #[prost(string, tag = "2")]
    pub id: String,
    /// Whether to go on when the log ends.
    #[prost(bool, tag = "4")]
    pub follow: bool,
    /// How many lines of it.
    #[prost(int32, tag = "5")]
    pub tail_lines: i32,
}

/// `machine.VersionResponse`: one message a node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionResponse {
    /// The nodes' versions.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<Version>,
}

/// `machine.Version`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Version {
    /// Which node it is from.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
}

/// `cosi.resource.GetRequest`, and as much of `ListRequest` and `WatchRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceRequest {
    /// The resource's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Its type.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Its name.
    #[prost(string, tag = "3")]
    pub id: String,
}

/// `machine.GenerateClientConfigurationRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GrantRequest {
    /// The roles that the certificate shall have.
    #[prost(string, repeated, tag = "1")]
    pub roles: Vec<String>,
}

/// `machine.GenerateClientConfigurationResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GrantResponse {
    /// What each node granted.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<Grant>,
}

/// `machine.GenerateClientConfiguration`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Grant {
    /// The root, PEM.
    #[prost(bytes = "vec", tag = "2")]
    pub ca: Vec<u8>,
    /// The certificate, PEM.
    #[prost(bytes = "vec", tag = "3")]
    pub crt: Vec<u8>,
    /// Its key, PEM.
    #[prost(bytes = "vec", tag = "4")]
    pub key: Vec<u8>,
}
