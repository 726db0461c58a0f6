"""Creates the queues of queues.json at AWS_ENDPOINT_URL.

LocalStack runs this script when it is ready, inside its own Python; tests run it against moto. Both have boto3. The script
is idempotent: an existing queue with the described attributes stays as it is.
"""

import json
import os

import boto3

sqs = boto3.client(
    "sqs",
    endpoint_url=os.environ.get("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
    region_name=os.environ.get("AWS_DEFAULT_REGION", "eu-central-1"),
    aws_access_key_id="test",
    aws_secret_access_key="test",
)

with open(os.environ.get("BESPEAK_QUEUES", "/etc/bespeak/queues.json"), encoding="utf-8") as file:
    queues = json.load(file)

arns = {}
for queue in queues:
    attributes = dict(queue["attributes"])
    if "redrive" in queue:
        # The queue that is referred to must come first in the file.
        redrive = queue["redrive"]
        attributes["RedrivePolicy"] = json.dumps(
            {"deadLetterTargetArn": arns[redrive["to"]], "maxReceiveCount": redrive["maxReceiveCount"]}
        )
    url = sqs.create_queue(QueueName=queue["name"], Attributes=attributes)["QueueUrl"]
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    arns[queue["name"]] = got["Attributes"]["QueueArn"]
