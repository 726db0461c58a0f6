use super::super::*;

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| Network::parse(text).expect("a network")).collect()
}

#[test]
fn networks_are_in_cidr_notation() {
    for good in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "127.0.0.1", "127.0.0.1/32", "fd00:1::/32", "::1"] {
        assert!(Network::parse(good).is_some(), "{good}");
    }
    for wrong in
        ["", "10.0.0.0/33", "10.0.0.1/8", "10/8", "::1/129", "fd00::1/32", "10.0.0.0/+8", "a/8", "10.0.0.0/"]
    {
        assert!(Network::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn allowed_networks_open_themselves_and_nothing_else() {
    let policy = DeliveryPolicy {
        allow: networks(&["10.1.0.0/16", "fd00::/8", "0.0.0.0/0"]),
        deny: networks(&["10.1.9.0/24", "1.1.1.0/24"]),
        ..DeliveryPolicy::default()
    };
    let narrow = DeliveryPolicy { allow: networks(&["10.1.0.0/16"]), ..DeliveryPolicy::default() };
    let refuses =
        |policy: &DeliveryPolicy, address: &str| policy.refuses(address.parse().expect("an address"));
    for allowed in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "1.0.0.1", "2606:4700::1111"] {
        assert_eq!(refuses(&narrow, allowed), None, "{allowed}");
    }
    for refused in ["10.2.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.2.0.1"] {
        assert!(refuses(&narrow, refused).is_some(), "{refused}");
    }
    assert_eq!(refuses(&policy, "192.168.1.1"), None, "every IPv4 network is named");
    assert_eq!(refuses(&policy, "fd00:1::1"), None);
    for refused in ["169.254.169.254", "168.63.129.16", "::ffff:169.254.169.254", "fd00:ec2::254", "fe80::1"]
    {
        assert!(refuses(&policy, refused).is_some(), "{refused} must be named itself");
    }
    for denied in ["10.1.9.9", "1.1.1.1", "::ffff:1.1.1.1"] {
        assert!(matches!(refuses(&policy, denied), Some(Forbidden::Denied(_))), "{denied}");
    }
    let open =
        DeliveryPolicy { allow_private: true, deny: networks(&["10.0.0.0/8"]), ..DeliveryPolicy::default() };
    assert_eq!(refuses(&open, "169.254.169.254"), None, "as the setting always meant");
    assert!(refuses(&open, "10.1.2.3").is_some(), "a denied network wins");
    let named = DeliveryPolicy { allow: networks(&["169.254.169.254"]), ..DeliveryPolicy::default() };
    assert_eq!(refuses(&named, "169.254.169.254"), None);
}

#[test]
fn ports_and_http_are_allowed_by_the_configuration() {
    let url = |text: &str| EndpointUrl::parse("url", text).expect("a URL");
    let public = DeliveryPolicy::default();
    let private = DeliveryPolicy { allow_private: true, ..DeliveryPolicy::default() };
    for port in [22, 25, 445, 1023] {
        let refused = public.refuses_url(&url(&format!("https://example.com:{port}/")));
        assert_eq!(refused, Some(Forbidden::Port(port)));
    }
    for allowed in ["https://example.com/", "https://example.com:8443/", "http://example.com/"] {
        assert_eq!(public.refuses_url(&url(allowed)), None, "{allowed} may go on");
    }
    assert_eq!(public.refuses_new(&url("http://example.com/")), Some(Forbidden::Http));
    assert_eq!(public.refuses_new(&url("https://example.com/")), None);
    assert_eq!(private.refuses_new(&url("http://localhost:8080/")), None);
    assert_eq!(private.refuses_new(&url("http://127.0.0.1:8080/")), None);
    assert_eq!(private.refuses_new(&url("http://1.1.1.1/")), Some(Forbidden::Http), "it is not private");
    let never = DeliveryPolicy { http: AllowHttp::Never, ..private.clone() };
    assert_eq!(never.refuses_url(&url("http://127.0.0.1:8080/")), Some(Forbidden::Http));
    let always = DeliveryPolicy { http: AllowHttp::Always, ..public };
    assert_eq!(always.refuses_new(&url("http://example.com/")), None);
}
