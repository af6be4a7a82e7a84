"""The whole system on one machine from packages alone: real Kafka, real MongoDB, a real SMTP server, the five services."""
