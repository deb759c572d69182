//! What a procedure does. Whatever is not known to be harmless is a write.

use super::Rpc;
use crate::classify::Classified;

/// The kinds of procedures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What Talos lets whoever is `os:reader` do.
    Read,
    /// A read of the resource API, whose class is in its message: some resources are secrets.
    ResourceRead,
    /// Gives away files, memory or traffic of a node, secrets included; Talos wants an administrator for it.
    SecretRead,
    /// Makes a credential that outlives the session; with the name `allow_minting` knows it by.
    Mint(&'static str),
    /// Everything else, unknown procedures too.
    Write,
}

impl Kind {
    /// The kind of a procedure, after the roles that Talos itself asks for.
    pub fn of(rpc: Rpc<'_>) -> Self {
        let Rpc { service, method } = rpc;
        let known =
            |table: &[(&str, &[&str])]| table.iter().any(|(s, methods)| *s == service && methods.contains(&method));
        match (service, method) {
            (MACHINE, "GenerateClientConfiguration") => Self::Mint(CLIENT_CONFIGURATION),
            (MACHINE, "Kubeconfig") => Self::Mint(KUBECONFIG),
            ("inspect.InspectService", _) => Self::Read,
            (STATE, "Get" | "List" | "Watch") => Self::ResourceRead,
            _ if known(&READS) => Self::Read,
            _ if known(&[(MACHINE, SECRET_READS)]) => Self::SecretRead,
            _ => Self::Write,
        }
    }

    /// The class that policy decides on.
    pub const fn class(self) -> Classified {
        match self {
            Self::Read | Self::ResourceRead => Classified::read("talos.read"),
            Self::SecretRead => Classified::write("talos.secret-read"),
            Self::Mint(rule) => Classified::mint(rule),
            Self::Write => Classified::write("talos.write"),
        }
    }
}

const MACHINE: &str = "machine.MachineService";

const STATE: &str = "cosi.resource.State";

const CLIENT_CONFIGURATION: &str = "talos.client-configuration";

const KUBECONFIG: &str = "talos.kubeconfig";

/// What mints, by the names that `allow_minting` takes.
pub const MINTING: [&str; 2] = [CLIENT_CONFIGURATION, KUBECONFIG];

const SECRET_READS: &[&str] = &["Read", "Copy", "PacketCapture", "EtcdSnapshot"];

/// What `os:reader` is granted by machined, but for what it is granted in maintenance mode only.
const READS: [(&str, &[&str]); 7] = [
    (
        MACHINE,
        &[
            "CPUFreqStats",
            "CPUInfo",
            "Containers",
            "DiskStats",
            "DiskUsage",
            "Dmesg",
            "EtcdAlarmList",
            "EtcdMemberList",
            "EtcdStatus",
            "Events",
            "Hostname",
            "ImageList",
            "List",
            "LoadAvg",
            "Logs",
            "LogsContainers",
            "Memory",
            "Mounts",
            "NetworkDeviceStats",
            "Netstat",
            "Processes",
            "ServiceList",
            "Stats",
            "SystemStat",
            "Version",
        ],
    ),
    ("cluster.ClusterService", &["HealthCheck"]),
    ("machine.ImageService", &["List", "Verify"]),
    ("machine.StorageService", &["Statfs"]),
    ("storage.StorageService", &["Disks"]),
    ("time.TimeService", &["Time", "TimeCheck"]),
    // Clients ask what a server can do; it says nothing of the cluster.
    ("grpc.health.v1.Health", &["Check", "Watch"]),
];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is the test's failure")]
mod tests {
    use super::*;

    fn kind(path: &str) -> Kind {
        Kind::of(Rpc::of_path(path).unwrap())
    }

    #[test]
    fn reads_are_those_of_a_reader() {
        for path in [
            "/machine.MachineService/Version",
            "/machine.MachineService/Logs",
            "/machine.MachineService/List",
            "/machine.MachineService/EtcdStatus",
            "/machine.ImageService/List",
            "/inspect.InspectService/ControllerRuntimeDependencies",
            "/cluster.ClusterService/HealthCheck",
            "/storage.StorageService/Disks",
            "/machine.StorageService/Statfs",
            "/time.TimeService/TimeCheck",
        ] {
            assert_eq!(kind(path), Kind::Read, "{path}");
        }
        assert_eq!(kind("/cosi.resource.State/Watch"), Kind::ResourceRead);
    }

    #[test]
    fn what_only_looks_like_a_read_is_none() {
        for path in [
            "/machine.MachineService/ApplyConfiguration",
            "/storage.StorageService/BlockDeviceWipe",
            "/machine.LVMService/VolumeGroupRemove",
            "/machine.MDService/Destroy",
            "/machine.MachineService/Reboot",
            "/machine.ImageService/Pull",
            "/machine.DebugService/ContainerRun",
            "/cosi.resource.State/Create",
            "/cosi.resource.State/TeardownAndDestroy",
            "/machine.MachineService/version",
            "/other.MachineService/Version",
            "/machine.MachineService/OfTheFuture",
            "/omni.management.ManagementService/CreateServiceAccount",
        ] {
            assert_eq!(kind(path), Kind::Write, "{path}");
        }
        for path in ["/machine.MachineService/Read", "/machine.MachineService/EtcdSnapshot"] {
            assert_eq!(kind(path), Kind::SecretRead, "{path}");
        }
        assert_eq!(kind("/machine.MachineService/Kubeconfig"), Kind::Mint("talos.kubeconfig"));
    }
}
