#!/bin/bash
# Creates the topics once the broker answers, as `bespeak serve` would with its defaults. Existing topics stay as they are.
topic() {
    until /opt/kafka/bin/kafka-topics.sh --bootstrap-server localhost:9094 --create --if-not-exists \
        --topic "$1" --partitions "$2" --replication-factor 1; do
        sleep 1
    done
}
topic bespeak.events 12
topic bespeak.events.dlq 1
