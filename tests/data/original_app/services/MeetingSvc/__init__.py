# -*-coding:utf-8-*-
from .service import MeetingSvc
