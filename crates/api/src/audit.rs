//! Who can reach which published port, and by which rule (`GET /gorae/network/audit`).

use crate::wire::wire;

wire! {
    /// Everything that containers publish, and what stands in the way.
    #[derive(Eq)]
    pub struct Audit {
        /// `docker` or `host-firewall`: who has the last word on published ports.
        "Policy" => policy: String,
        /// Ports.
        "Ports" => ports: Vec<AuditPort>,
        /// What keeps traffic from containers although nothing of Gorae does.
        "Warnings" => warnings: Vec<String>,
    }

    /// One port of one container.
    #[derive(Eq)]
    pub struct AuditPort {
        /// Container's name.
        "Container" => container: String,
        /// Container's id.
        "ContainerID" => container_id: String,
        /// Network's name.
        "Network" => network: String,
        /// `tcp`, `udp` or `sctp`.
        "Protocol" => protocol: String,
        /// The host's address; empty when the port is not published.
        "HostIP" => host_ip: String,
        /// The host's port; zero when the port is not published.
        "HostPort" => host_port: u16,
        /// The container's address.
        "ContainerIP" => container_ip: String,
        /// The container's port.
        "ContainerPort" => container_port: u16,
        /// From where it is reached.
        "From" => from: Vec<Origin>,
    }

    /// A place that packets may come from.
    #[derive(Eq)]
    pub struct Origin {
        /// In words, such as `other hosts`.
        "Who" => who: String,
        /// Whether packets from there arrive.
        "Reachable" => reachable: bool,
        /// The rule that decides.
        "Rule" => rule: String,
    }
}
