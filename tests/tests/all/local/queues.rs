//! The consumer's queue and its redrive queue, on LocalStack where Docker runs, else on moto.

use std::time::Duration;

use bespeak_tests::{Queue, aws_server, until};
use serde_json::{Value, json};

#[tokio::test]
async fn undeleted_messages_are_redelivered_and_then_redriven() {
    let (queue, redrive) = Queue::own(aws_server().await).await;
    let described: Value =
        serde_json::from_str(queue.attributes().await["RedrivePolicy"].as_str().unwrap()).unwrap();
    let receptions = described["maxReceiveCount"].as_u64().unwrap();
    // Given a message
    let event = json!({"ce_id": {"DataType": "String", "StringValue": "0190"}});
    let id = queue.send(r#"{"token":"t"}"#, &event).await;
    // When it is received and not deleted, it is redelivered up to the maximum of the queue
    for time in 1..=receptions {
        let received = queue.receive().await;
        let [message] = &received[..] else { panic!("received {time} times, then {received:?}") };
        assert_eq!((message.id.as_str(), u64::from(message.times())), (id.as_str(), time));
        assert_eq!(message.body, r#"{"token":"t"}"#);
        assert_eq!(message.message_attributes["ce_id"]["StringValue"], "0190");
        assert!(queue.receive().await.is_empty(), "a received message must be hidden from others");
        queue.hide_for(message, Duration::ZERO).await;
    }
    // Then it is only in the redrive queue
    let set_aside = async || {
        assert!(queue.receive().await.is_empty());
        redrive.receive_hidden_for(Duration::ZERO).await.iter().any(|message| message.id == id)
    };
    until("the message is in the redrive queue", set_aside).await;
}

#[tokio::test]
async fn hidden_messages_return_and_deleted_messages_do_not() {
    let (queue, redrive) = Queue::own(aws_server().await).await;
    queue.send("first", &json!({})).await;
    let hidden = queue.receive_hidden_for(Duration::from_secs(1)).await;
    assert_eq!(hidden.len(), 1);
    let again = async || {
        let received = queue.receive().await;
        for message in &received {
            queue.delete(message).await;
        }
        !received.is_empty()
    };
    until("the message is redelivered", again).await;
    // A deleted message is in no queue, neither visible nor in flight
    for queue in [&queue, &redrive] {
        let attributes = queue.attributes().await;
        for count in ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"] {
            assert_eq!(attributes[count], "0", "{attributes}");
        }
    }
}

#[tokio::test]
async fn queue_attributes_suit_a_lambda_function() {
    let (queue, redrive) = Queue::of_consumer(aws_server().await).await;
    let (attributes, of_redrive) = (queue.attributes().await, redrive.attributes().await);
    let number = |attributes: &Value, name: &str| attributes[name].as_str().unwrap().parse::<u64>().unwrap();
    let policy: Value = serde_json::from_str(attributes["RedrivePolicy"].as_str().unwrap()).unwrap();
    assert_eq!(policy["deadLetterTargetArn"], redrive.arn().await);
    // A redriven message keeps the time at which it was sent first, so the redrive queue must retain it for longer.
    assert!(
        number(&of_redrive, "MessageRetentionPeriod") > number(&attributes, "MessageRetentionPeriod"),
        "{attributes} {of_redrive}"
    );
    // A short throttling of the function must not use up the receptions of a message: AWS recommends at least five
    // (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html).
    assert!(policy["maxReceiveCount"].as_u64() >= Some(5), "{policy}");
    assert!(of_redrive.get("RedrivePolicy").is_none());
}

#[tokio::test]
async fn a_message_becomes_a_lambda_record() {
    let (queue, _) = Queue::own(aws_server().await).await;
    queue.send("{}", &json!({"ce_type": {"DataType": "String", "StringValue": "t"}})).await;
    let received = queue.receive().await;
    let arn = queue.arn().await;
    let record = received[0].as_lambda_record(&arn);
    assert_eq!(record["eventSource"], "aws:sqs");
    assert_eq!(record["messageAttributes"]["ce_type"]["stringValue"], "t");
    assert_eq!(record["attributes"]["ApproximateReceiveCount"], "1");
    assert!(arn.starts_with("arn:aws:sqs:eu-central-1:") && record["eventSourceARN"] == arn.as_str());
}
