use proptest::prelude::*;

use super::*;

const DRAWN: NonZeroU64 = NonZeroU64::MIN;
const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_parsed_traceparent_is_written_unchanged() {
    let context = TraceContext::parse(GIVEN).unwrap();
    assert_eq!(context.traceparent().as_str(), GIVEN);
    assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((context.span().get(), context.is_sampled()), (0x00f0_67aa_0ba9_02b7, true));
    let unsampled = GIVEN.replace("-01", "-00");
    assert_eq!(TraceContext::parse(&unsampled).unwrap().traceparent().as_str(), unsampled);
}

#[test]
fn flags_that_are_not_known_are_not_handed_on() {
    let context = TraceContext::parse(&GIVEN.replace("-01", "-ff")).unwrap();
    assert_eq!(context.traceparent().as_str(), GIVEN);
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    let later = GIVEN.replacen("00", "cc", 1);
    for text in [later.clone(), format!("{later}-what-comes-then")] {
        assert_eq!(TraceContext::parse(&text).unwrap().traceparent().as_str(), GIVEN, "{text}");
    }
    assert_eq!(TraceContext::parse(&format!("{later}.")), None);
}

#[test]
fn malformed_traceparents_are_rejected() {
    let upper = GIVEN.to_uppercase();
    for text in [
        "",
        "00",
        "hello",
        &GIVEN[..54],
        &format!("{GIVEN}-00"),
        &format!(" {GIVEN}"),
        &upper,
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
    ] {
        assert_eq!(TraceContext::parse(text), None, "{text:?}");
    }
}

#[test]
fn x_rays_header_is_the_same_trace() {
    let given = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let context = TraceContext::parse_xray(given, DRAWN).unwrap();
    let expected = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
    assert_eq!(context.traceparent().as_str(), expected);
    // As a load balancer writes it, and with the fields of other services.
    let root = "Self=1-67891234-12456789abcdef012345678; Root=1-5759e988-bd862e3fe1be46a994272793";
    let context = TraceContext::parse_xray(root, DRAWN).unwrap();
    assert_eq!(context.trace_id().to_string(), "5759e988bd862e3fe1be46a994272793");
    assert!(!context.is_sampled());
    for sampled in ["0", "?", ""] {
        let context =
            TraceContext::parse_xray(&given.replace("Sampled=1", &format!("Sampled={sampled}")), DRAWN);
        assert!(!context.unwrap().is_sampled(), "{sampled:?}");
    }
}

#[test]
fn malformed_headers_of_x_ray_are_rejected() {
    for text in [
        "",
        "Root=",
        "Parent=53995c3f42cd8ad8;Sampled=1",
        "Root=2-5759e988-bd862e3fe1be46a994272793",
        "Root=1-5759e988-bd862e3fe1be46a99427279",
        "Root=1-5759e98-8bd862e3fe1be46a994272793",
        "Root=1-00000000-000000000000000000000000",
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0",
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0000000000000000",
    ] {
        assert_eq!(TraceContext::parse_xray(text, DRAWN), None, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_context_is_read_as_it_is_written(trace in 1_u128.., span in 1_u64.., sampled: bool) {
        let context =
            TraceContext::new(NonZeroU128::new(trace).unwrap(), NonZeroU64::new(span).unwrap(), sampled);
        prop_assert_eq!(TraceContext::parse(context.traceparent().as_str()), Some(context));
    }

    #[test]
    fn anything_may_come(text: String) {
        let _ = (TraceContext::parse(&text), TraceContext::parse_xray(&text, DRAWN));
    }
}
