"""Appointments and invoices of a clinic."""
