# -*-coding:utf-8-*-
