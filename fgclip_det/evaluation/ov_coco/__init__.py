"""Open-vocabulary COCO: its metric and what it is made of."""
