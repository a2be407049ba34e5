from services.MeetingSvc import MeetingSvc


class NoticeSvc:
    def send(self, text, times=1):
        return [text] * times

    def of_whom(self):
        return MeetingSvc.__name__
