//! bollard, by its typed interface: what it cannot decode, it reports as an error.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use ::bollard::container::LogOutput;
use ::bollard::errors::Error;
use ::bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use ::bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, ContainerStatsResponse, ContainerUpdateBody,
    EndpointSettings, HealthConfig, HealthStatusEnum, HostConfig, Ipam, IpamConfig,
    NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest, NetworkingConfig,
    PortBinding, VolumeCreateRequest,
};
use ::bollard::query_parameters as query;
use ::bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{StreamExt as _, TryStreamExt as _};
use testkit::engine::{Engine, EngineOptions};
use tokio::io::AsyncWriteExt as _;

const LIMIT: Duration = Duration::from_secs(60);

/// The executable of the same build: test programs lie in a folder beside it.
fn gorae() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("gorae")
}

/// Runs a test against an engine of its own.
fn with_docker<F: Future<Output = Result<(), Error>>>(test: impl FnOnce(Docker) -> F) {
    let engine = Engine::start(EngineOptions::new(gorae())).unwrap();
    let socket = engine.socket().display().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let docker = Docker::connect_with_unix(&socket, 30, API_DEFAULT_VERSION).unwrap();
        // bollard is newer than the API that the engine speaks
        let docker = docker.negotiate_version().await.unwrap();
        tokio::time::timeout(LIMIT, test(docker))
            .await
            .unwrap()
            .unwrap();
    });
}

fn strings(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

fn filters(name: &str, value: &str) -> Option<HashMap<String, Vec<String>>> {
    Some(HashMap::from([(name.to_owned(), vec![value.to_owned()])]))
}

fn shell(line: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: strings(&["sh", "-c", line]),
        ..Default::default()
    }
}

fn named(name: &str) -> Option<query::CreateContainerOptions> {
    let name = Some(name.to_owned());
    Some(query::CreateContainerOptions {
        name,
        ..Default::default()
    })
}

async fn start(docker: &Docker, name: &str, body: ContainerCreateBody) -> Result<String, Error> {
    let made = docker.create_container(named(name), body).await?;
    docker
        .start_container(name, None::<query::StartContainerOptions>)
        .await?;
    Ok(made.id)
}

async fn remove(docker: &Docker, name: &str) -> Result<(), Error> {
    let options = query::RemoveContainerOptions {
        force: true,
        v: true,
        ..Default::default()
    };
    docker.remove_container(name, Some(options)).await
}

fn status_of<T>(result: Result<T, Error>) -> (u16, String) {
    match result {
        Err(Error::DockerResponseServerError {
            status_code,
            message,
        }) => (status_code, message),
        Err(other) => (0, other.to_string()),
        Ok(_) => (200, String::new()),
    }
}

#[test]
fn system_and_errors() {
    with_docker(|docker| async move {
        assert_eq!(docker.ping().await?, "OK");
        let version = docker.version().await?;
        assert_eq!(version.api_version.as_deref(), Some("1.51"));
        assert_eq!(docker.client_version().to_string(), "1.51");
        let info = docker.info().await?;
        assert_eq!(info.os_type.as_deref(), Some("linux"));
        assert!(info.ncpu.unwrap_or_default() > 0);
        docker.df(None::<query::DataUsageOptions>).await?;
        let none = None::<query::InspectContainerOptions>;
        let (status, message) = status_of(docker.inspect_container("nosuch", none).await);
        assert_eq!(
            (status, message.as_str()),
            (404, "No such container: nosuch")
        );
        let twice = status_of(docker.create_container(named("a?"), shell("true")).await);
        assert_eq!(twice.0, 400, "{}", twice.1);
        start(&docker, "box", shell("sleep 1000")).await?;
        let conflict = status_of(docker.create_container(named("box"), shell("true")).await);
        assert_eq!(conflict.0, 409, "{}", conflict.1);
        let none = None::<query::RemoveContainerOptions>;
        assert_eq!(status_of(docker.remove_container("box", none).await).0, 409);
        remove(&docker, "box").await
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one life, told in order")]
fn the_life_of_a_container() {
    with_docker(|docker| async move {
        let port = vec![PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: Some("8088".to_owned()),
        }];
        let body = ContainerCreateBody {
            env: strings(&["A=1"]),
            labels: Some(HashMap::from([("tier".to_owned(), "web".to_owned())])),
            exposed_ports: strings(&["80/tcp"]),
            healthcheck: Some(HealthConfig {
                test: strings(&["CMD-SHELL", "true"]),
                interval: Some(200_000_000),
                ..Default::default()
            }),
            host_config: Some(HostConfig {
                memory: Some(64 << 20),
                binds: strings(&["vol:/data"]),
                port_bindings: Some(HashMap::from([("80/tcp".to_owned(), Some(port))])),
                ..Default::default()
            }),
            ..shell("trap 'exit 4' TERM; echo started; while :; do sleep 0.05; done")
        };
        let id = start(&docker, "box", body).await?;
        let listed = docker
            .list_containers(Some(query::ListContainersOptions {
                filters: filters("label", "tier=web"),
                size: true,
                ..Default::default()
            }))
            .await?;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].id.as_deref(), Some(id.as_str()));
        let ports = listed[0].ports.clone().unwrap_or_default();
        assert_eq!(ports[0].public_port, Some(8088));
        let none = || None::<query::InspectContainerOptions>;
        let found = docker.inspect_container("box", none()).await?;
        assert_eq!(found.host_config.unwrap().memory, Some(64 << 20));
        let healthy = loop {
            let state = docker
                .inspect_container("box", none())
                .await?
                .state
                .unwrap();
            assert_eq!(state.status, Some(ContainerStateStatusEnum::RUNNING));
            let health = state.health.and_then(|health| health.status);
            if health != Some(HealthStatusEnum::STARTING) {
                break health;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(healthy, Some(HealthStatusEnum::HEALTHY));
        let stats: Vec<ContainerStatsResponse> =
            docker.stats("box", None).take(2).try_collect().await?;
        let memory = stats[1].memory_stats.clone().unwrap();
        assert_eq!(memory.limit, Some(64 << 20));
        let top = docker
            .top_processes("box", None::<query::TopOptions>)
            .await?;
        assert!(!top.processes.unwrap_or_default().is_empty());
        docker.pause_container("box").await?;
        let paused = docker
            .inspect_container("box", none())
            .await?
            .state
            .unwrap();
        assert_eq!(paused.paused, Some(true));
        docker.unpause_container("box").await?;
        let update = ContainerUpdateBody {
            memory: Some(80 << 20),
            memory_swap: Some(160 << 20),
            ..Default::default()
        };
        docker.update_container("box", update).await?;
        let name = "renamed".to_owned();
        docker
            .rename_container("box", query::RenameContainerOptions { name })
            .await?;
        docker
            .stop_container("renamed", None::<query::StopContainerOptions>)
            .await?;
        let waited: Vec<_> = docker
            .wait_container("renamed", None::<query::WaitContainerOptions>)
            .collect()
            .await;
        // bollard makes an error of a code that is not 0
        assert!(
            matches!(
                &waited[..],
                [Err(Error::DockerContainerWaitError { code: 4, .. })]
            ),
            "{waited:?}"
        );
        docker
            .restart_container("renamed", None::<query::RestartContainerOptions>)
            .await?;
        docker
            .kill_container("renamed", None::<query::KillContainerOptions>)
            .await?;
        remove(&docker, "renamed").await?;
        docker
            .remove_volume("vol", None::<query::RemoveVolumeOptions>)
            .await
    });
}

#[test]
fn logs_attach_and_exec() {
    with_docker(|docker| async move {
        start(&docker, "told", shell("echo out; echo err >&2")).await?;
        let options = query::LogsOptions {
            follow: true,
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        let mut said: Vec<String> = docker
            .logs("told", Some(options))
            .map_ok(|output| match output {
                LogOutput::StdOut { message } => format!("1{}", String::from_utf8_lossy(&message)),
                LogOutput::StdErr { message } => format!("2{}", String::from_utf8_lossy(&message)),
                other => format!("? {other}"),
            })
            .try_collect()
            .await?;
        said.sort();
        assert_eq!(said, ["1out\n", "2err\n"]);

        let body = ContainerCreateBody {
            open_stdin: Some(true),
            stdin_once: Some(true),
            attach_stdin: Some(true),
            ..shell("cat")
        };
        docker.create_container(named("cat"), body).await?;
        let options = query::AttachContainerOptions {
            stdin: true,
            stdout: true,
            stream: true,
            ..Default::default()
        };
        let mut attached = docker.attach_container("cat", Some(options)).await?;
        docker
            .start_container("cat", None::<query::StartContainerOptions>)
            .await?;
        attached.input.write_all(b"through the socket\n").await?;
        attached.input.shutdown().await?;
        let echoed: Vec<LogOutput> = attached.output.try_collect().await?;
        let echoed: String = echoed.iter().map(ToString::to_string).collect();
        assert_eq!(echoed, "through the socket\n");

        start(&docker, "box", shell("sleep 1000")).await?;
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: strings(&["sh", "-c", "echo inside $A; exit 5"]),
            env: strings(&["A=b"]),
            user: Some("nobody".to_owned()),
            ..Default::default()
        };
        let exec = docker.create_exec("box", options).await?.id;
        let StartExecResults::Attached { output, .. } =
            docker.start_exec(&exec, None::<StartExecOptions>).await?
        else {
            panic!("not attached");
        };
        let output: Vec<LogOutput> = output.try_collect().await?;
        assert_eq!(output[0].to_string(), "inside b\n");
        assert_eq!(docker.inspect_exec(&exec).await?.exit_code, Some(5));
        for name in ["told", "cat", "box"] {
            remove(&docker, name).await?;
        }
        Ok(())
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one life, told in order")]
fn networks_volumes_images_and_events() {
    with_docker(|docker| async move {
        let created = docker
            .create_network(NetworkCreateRequest {
                name: "net".to_owned(),
                ipam: Some(Ipam {
                    config: Some(vec![IpamConfig {
                        subnet: Some("10.95.0.0/24".to_owned()),
                        ..Default::default()
                    }]),
                    ..Default::default()
                }),
                ..Default::default()
            })
            .await?;
        assert_eq!(created.warning, "");
        let endpoint = EndpointSettings {
            aliases: strings(&["mate"]),
            ..Default::default()
        };
        let body = ContainerCreateBody {
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([("net".to_owned(), endpoint)])),
            }),
            ..shell("sleep 1000")
        };
        start(&docker, "box", body).await?;
        start(&docker, "late", shell("sleep 1000")).await?;
        docker
            .connect_network(
                "net",
                NetworkConnectRequest {
                    container: "late".to_owned(),
                    ..Default::default()
                },
            )
            .await?;
        let found = docker
            .inspect_network("net", None::<query::InspectNetworkOptions>)
            .await?;
        assert_eq!(found.containers.unwrap_or_default().len(), 2);
        docker
            .disconnect_network(
                "net",
                NetworkDisconnectRequest {
                    container: "late".to_owned(),
                    force: Some(true),
                },
            )
            .await?;
        let listed = docker
            .list_networks(Some(query::ListNetworksOptions {
                filters: filters("name", "net"),
            }))
            .await?;
        assert_eq!(listed[0].id.as_deref(), Some(created.id.as_str()));
        for name in ["box", "late"] {
            remove(&docker, name).await?;
        }
        docker.remove_network("net").await?;

        let volume = docker
            .create_volume(VolumeCreateRequest {
                name: Some("vol".to_owned()),
                labels: Some(HashMap::from([("a".to_owned(), "b".to_owned())])),
                ..Default::default()
            })
            .await?;
        assert_eq!(volume.driver, "local");
        assert_eq!(docker.inspect_volume("vol").await?.labels["a"], "b");
        let pruned = docker
            .prune_volumes(Some(query::PruneVolumesOptions {
                filters: filters("all", "true"),
            }))
            .await?;
        assert_eq!(pruned.volumes_deleted, strings(&["vol"]));

        let tag = query::TagImageOptions {
            repo: Some("spare".to_owned()),
            tag: Some("v1".to_owned()),
        };
        docker.tag_image("busybox", Some(tag)).await?;
        let image = docker.inspect_image("spare:v1").await?;
        assert_eq!(image.os.as_deref(), Some("linux"));
        assert_eq!(docker.image_history("spare:v1").await?.len(), 1);
        let images = docker.list_images(None::<query::ListImagesOptions>).await?;
        assert!(
            images
                .iter()
                .any(|one| one.repo_tags.contains(&"spare:v1".to_owned()))
        );
        let none = None::<query::RemoveImageOptions>;
        docker.remove_image("spare:v1", none, None).await?;

        let events: Vec<_> = docker
            .events(Some(query::EventsOptions {
                since: Some("1".to_owned()),
                until: Some("9999999999".to_owned()),
                filters: filters("type", "network"),
            }))
            .take(2)
            .try_collect()
            .await?;
        assert_eq!(events[0].action.as_deref(), Some("create"));
        assert_eq!(events[1].action.as_deref(), Some("connect"));
        Ok(())
    });
}
