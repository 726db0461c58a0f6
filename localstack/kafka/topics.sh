#!/bin/bash
# Makes the topics, as `bespeak serve` would with its defaults, once the broker answers. Topics that are there stay as they are.
topic() {
    until /opt/kafka/bin/kafka-topics.sh --bootstrap-server localhost:9094 --create --if-not-exists \
        --topic "$1" --partitions "$2" --replication-factor 1; do
        sleep 1
    done
}
topic bespeak.events 12
topic bespeak.events.dlq 1
