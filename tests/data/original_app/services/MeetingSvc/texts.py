def reminder(title, minutes):
    return f"{title} in {minutes} minutes"
