//! What a session refuses to open.

use std::net::TcpListener;

use vlad_bus::bus::Bus;
use vlad_bus::config::ZenohConfig;
use vlad_bus::error::BusError;

fn listen_on(endpoint: &str) -> ZenohConfig {
    ZenohConfig {
        listen: vec![endpoint.to_owned()],
        ..ZenohConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.7.1:0").unwrap();
    let endpoint = format!("tcp/{}", taken.local_addr().unwrap());
    let Err(error) = Bus::zenoh(listen_on(&endpoint)).await else {
        panic!("it opened")
    };
    assert!(error.to_string().contains(&endpoint), "{error}");
    assert!(matches!(error, BusError::Open { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_beyond_this_machine_is_refused() {
    let Err(error) = Bus::zenoh(listen_on("tcp/0.0.0.0:7447")).await else {
        panic!("it opened")
    };
    assert!(matches!(error, BusError::Endpoint { .. }), "{error}");
}

#[tokio::test]
async fn a_runtime_of_one_thread_is_refused_instead_of_aborting() {
    let Err(error) = Bus::zenoh(ZenohConfig::default()).await else {
        panic!("it opened")
    };
    assert!(matches!(error, BusError::Runtime), "{error}");
}
