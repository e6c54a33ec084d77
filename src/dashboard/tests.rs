//! The page holds together, and needs nobody else.

use super::*;

fn text(path: &str) -> &'static str {
    FILES
        .iter()
        .find(|file| file.0 == path)
        .map_or("", |file| file.2)
}

fn quoted_after<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let parts = text.split(mark).skip(1);
    parts.filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_element_that_the_script_asks_for_exists() {
    let ids = quoted_after(text("/"), " id=\"");
    let script = text("/dashboard.js");
    let mut asked = quoted_after(script, "byId(\"");
    asked.extend(quoted_after(script, "showResult(\""));
    assert!(
        20 < asked.len(),
        "the script asks for {} elements",
        asked.len()
    );
    for id in asked {
        assert!(ids.contains(&id), "{id}");
    }
    for (i, id) in ids.iter().enumerate() {
        assert!(!ids[..i].contains(id), "{id} exists twice");
    }
}

#[test]
fn labels_and_titles_point_at_elements() {
    let page = text("/");
    let ids = quoted_after(page, " id=\"");
    for mark in [" for=\"", "aria-labelledby=\""] {
        for id in quoted_after(page, mark) {
            assert!(ids.contains(&id), "{id}");
        }
    }
}

#[test]
fn the_page_loads_only_its_own_files() {
    let page = text("/");
    let mut links = quoted_after(page, "href=\"");
    links.extend(quoted_after(page, "src=\""));
    for link in links {
        assert!(FILES.iter().any(|file| file.0 == link), "{link}");
    }
    for (path, _, text) in FILES {
        let svg_namespace = "http://www.w3.org/2000/svg";
        let text = text.replace(svg_namespace, "");
        assert!(
            !text.contains("http://") && !text.contains("https://"),
            "{path}"
        );
    }
}

#[test]
fn texts_of_the_daemon_cannot_become_markup() {
    let script = text("/dashboard.js");
    for danger in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
    ] {
        assert!(!script.contains(danger), "{danger}");
    }
    assert!(
        !text("/").contains(" onclick="),
        "inline handlers are forbidden by the page's policy"
    );
    assert!(
        !text("/").contains(" style="),
        "inline styles are forbidden by the page's policy"
    );
}

#[test]
fn a_change_of_mode_is_announced() {
    assert!(text("/").contains("id=\"mode-live\" aria-live=\"assertive\""));
}
