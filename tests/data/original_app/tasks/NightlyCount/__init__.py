# -*-coding:utf-8-*-

from .inner import customFunc
