"""The operations of a soak, and their choice by a seed."""
