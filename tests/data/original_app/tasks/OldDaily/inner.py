def main(app, taskInstance):
    return [app.name, taskInstance.fullName, app.services.MeetingSvc.total().value]
