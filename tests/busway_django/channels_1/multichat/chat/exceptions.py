class ClientError(Exception):
    """
    Something the client did wrong; its code is sent to it by catch_client_error.
    """

    def __init__(self, code):
        super(ClientError, self).__init__(code)
        self.code = code

    def send_to(self, channel):
        import json

        channel.send({"text": json.dumps({"error": self.code})})
