# -*-coding:utf-8-*-
MINUTES = 15
