"""What comes back by mail: reports of bounces and complaints, automatic replies, and the proof that they are ours."""
