//! The real `gorae` and `gorae-shim` as root, driven by Gorae's and Docker's own command lines and docker-py.
//!
//! Each test starts an engine on a host of its own, so all run in parallel, and each fails when its
//! engine leaves anything behind. What a container sees is asked from inside the container.

#[cfg(test)]
mod api_containers;
#[cfg(test)]
mod attach_ws;
#[cfg(test)]
mod attestations;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bad_requests;
#[cfg(test)]
mod bandwidth;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod build_caches;
#[cfg(test)]
mod build_clients;
#[cfg(test)]
mod build_differential;
#[cfg(test)]
mod build_export;
#[cfg(test)]
mod build_gha;
#[cfg(test)]
mod build_gorae;
#[cfg(test)]
mod build_hostile;
#[cfg(test)]
mod build_projects;
#[cfg(test)]
mod build_wire;
#[cfg(test)]
mod commit;
#[cfg(test)]
mod compose;
#[cfg(test)]
mod compose_ten;
#[cfg(test)]
mod config;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod copy;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod crash_store;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod docker_cli;
#[cfg(test)]
mod docker_py;
#[cfg(test)]
mod dockerd_name;
#[cfg(test)]
mod events;
#[cfg(test)]
mod exec_api;
#[cfg(test)]
mod failed_start;
#[cfg(test)]
mod firewall;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod health;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_load;
#[cfg(test)]
mod image_refusals;
#[cfg(test)]
mod images;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod list_filters;
#[cfg(test)]
mod listen;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod logs_files;
#[cfg(test)]
mod logs_forward;
#[cfg(test)]
mod macvlan;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod many_entries;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod network;
#[cfg(test)]
mod network_check;
#[cfg(test)]
mod network_end;
#[cfg(test)]
mod network_faults;
#[cfg(test)]
mod networks;
#[cfg(test)]
mod node_clients;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod pull;
#[cfg(test)]
mod pull_again;
#[cfg(test)]
mod pull_chunked;
#[cfg(test)]
mod pull_registries;
#[cfg(test)]
mod push;
#[cfg(test)]
mod push_broken;
#[cfg(test)]
mod push_forms;
#[cfg(test)]
mod referrers;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod registry_peers;
#[cfg(test)]
mod registry_within;
#[cfg(test)]
mod save_load;
#[cfg(test)]
mod service;
#[cfg(test)]
mod signatures;
#[cfg(test)]
mod snapshotters;
#[cfg(test)]
mod stats;
#[cfg(test)]
mod store_check;
#[cfg(test)]
mod store_leases;
#[cfg(test)]
mod store_limits;
#[cfg(test)]
mod store_storms;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod system;
#[cfg(test)]
mod testcontainers;
#[cfg(test)]
mod update_ports;
#[cfg(test)]
mod userns;
#[cfg(test)]
mod volumes;
#[cfg(test)]
mod volumes_api;

#[cfg(test)]
mod all_files_are_modules {
    #[test]
    fn every_file_beside_this_one_is_a_module_of_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e");
        let main = include_str!("main.rs");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Some(module) = name.strip_suffix(".rs").filter(|name| *name != "main") {
                assert!(main.contains(&format!("\nmod {module};")), "{name}");
            }
        }
    }
}
