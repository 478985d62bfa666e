"""Mail that comes back: reports of bounces and complaints, automatic replies, and the proof that they are ours."""
